"""prepare(): one pass from names to what is to be done, which does nothing and says nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.build import build
from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import find_environments, prepare
from modelkiln.errors import UsageError
from modelkiln.planning.keys import Status

MakeKiln = Callable[..., Kiln]
TARGET = "toy_a/words/toy-text"


def test_it_makes_nothing_and_says_nothing(
    make_kiln: MakeKiln, toy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepared = prepare(make_kiln(), "toy_*/words/*")
    assert not toy.exists()
    assert capfd.readouterr() == ("", "")
    assert len(prepared.targets) == len(prepared.plan.targets) == 4
    assert list(prepared.resolved) == list(prepared.plan.steps)
    assert prepared.choice is not None
    assert find_environments(prepared.resolved) == {"bare"}
    assert not prepared.is_done


def test_it_gives_the_same_twice(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    first, second = prepare(kiln, TARGET), prepare(kiln, TARGET)
    assert first.plan == second.plan
    assert first.resolved == second.resolved


def test_what_is_done_needs_no_runner(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    build(kiln, prepare(kiln, TARGET))
    again = prepare(make_kiln(), TARGET)
    assert again.is_done
    assert again.choice is None
    assert list(again.records) == list(again.plan.steps)
    assert prepare(make_kiln(runner="local"), TARGET).choice is not None


def test_targets_that_were_selected_are_taken_as_they_are(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    targets = kiln.targets("toy_a/words/*")
    assert prepare(kiln, targets).targets == tuple(targets)
    assert prepare(kiln, "toy_a/words/*,toy_b/words/*").targets[-1].model.name == "toy_b"


def test_until_leaves_out_what_comes_later(make_kiln: MakeKiln) -> None:
    stages = [one.stage for one in prepare(make_kiln(), TARGET, "export").plan.steps.values()]
    assert stages == ["ingest", "export"]


def test_one_target_is_one(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    assert prepare(kiln, TARGET).target.name == "toy_a+random0/words/toy-text"
    with pytest.raises(UsageError, match="'toy_\\*/words/toy-text' names 4 targets"):
        _ = prepare(kiln, "toy_*/words/toy-text").target


def test_a_lost_file_is_work_again(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    build(kiln, prepare(kiln, TARGET))
    record = prepare(kiln, TARGET).records["toy_a+random0/words/export"]
    kiln.store.blob_path(record.outputs["words.txt"].sha256).unlink()
    found = prepare(kiln, TARGET).resolved
    assert found["toy_a+random0/words/export"].status is Status.RUN
    assert found["toy_a+random0/words/convert"].status is Status.PENDING
