"""The weights that sides start from: official ones where they have been fetched, else random."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import weights
from bench.weights import say_weights, with_weights
from modelkiln.building.kiln import Kiln
from modelkiln.catalog.weights import FileWeights, OfficialWeights, RandomWeights
from modelkiln.errors import UsageError

MakeKiln = Callable[..., Kiln]
TARGET = "toy_a/words/toy-text"


def test_random_weights_stand_in_and_are_said(
    make_kiln: MakeKiln, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = make_kiln(weights="official", offline=True)
    given = with_weights(asked, TARGET)
    assert (given.options.weights, given.options.offline) == ("random", True)
    assert given.artifacts == asked.artifacts
    assert "all sides start from random weights" in capsys.readouterr().err


def test_what_is_there_or_was_asked_for_stays(
    make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random, official = make_kiln(weights="random:7"), make_kiln(weights="official")
    assert with_weights(random, TARGET) is random
    assert with_weights(official, TARGET.replace("toy_a", "toy_a+random3")) is official
    monkeypatch.setattr(weights, "find_cached", lambda *_: Path("/there"))
    assert with_weights(official, TARGET) is official
    assert capsys.readouterr().err == ""


def test_a_target_that_is_not_there_is_named(make_kiln: MakeKiln) -> None:
    with pytest.raises(UsageError, match="toy_x"):
        with_weights(make_kiln(weights="official"), "toy_x/words/toy-text")


def test_weights_in_a_word(make_kiln: MakeKiln) -> None:
    (target,) = make_kiln().targets(TARGET)
    own = FileWeights(path="/a.pt", sha256="ab" * 32, bytes=1, format="pt")
    words = [say_weights(replace(target, weights=one)) for one in (OfficialWeights(), own)]
    assert isinstance(target.weights, RandomWeights)
    assert [*words, say_weights(target)] == ["official", "a file of the user's own", "random"]
