"""A picture through published graphs: what is checked first, and where pictures go."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.building.predict import picture_path, predict
from modelkiln.errors import UsageError, VerificationFailure
from tests.modelkiln.toy_builds import TARGET, folder

MakeKiln = Callable[..., Kiln]


def test_other_pictures_are_named_after_the_overlay() -> None:
    assert picture_path(Path("a/b.PNG"), "overlay") == Path("a/b.PNG")
    assert picture_path(Path("a/b.c.png"), "mask") == Path("a/b.c.mask.png")


STAGE = '''
"""Toy prediction: one picture, which holds what it was given."""

import json

from exporters.protocol import Result, Step


def run(step: Step) -> Result:
    """Writes overlay.png."""
    (step.out / "overlay.png").write_text(step.input("picture").read_text())
    params = json.loads(json.dumps(dict(step.params)))
    return Result(outputs=["overlay.png"], metrics={"pictures": ["overlay"], "given": params})
'''


@pytest.fixture
def kiln(toy_copy: Path, make_kiln: MakeKiln, built: Path) -> Kiln:
    """A kiln with the toy built, which has a stage `predict`."""
    (toy_copy / "exporters" / "stages" / "predict.py").write_text(STAGE)
    (toy_copy / "exporters" / "toy" / "predict.py").write_text("")
    contract = toy_copy / "contracts" / "words.toml"
    contract.write_text(contract.read_text().replace('["track"]', '["predict"]'))
    return make_kiln(runner="local")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "cat.jpg").write_text("a cat")
    return tmp_path / "cat.jpg"


def test_prompts_reach_the_stage_as_numbers(kiln: Kiln, picture: Path) -> None:
    (target,) = kiln.targets(TARGET)
    overlay = picture.with_name("seen.png")
    told = predict(
        kiln, target, picture, points=[(1, 2), (3, 4, 0)], boxes=[(0, 0, 9, 9)], overlay=overlay
    )
    assert overlay.read_text() == "a cat"
    given = told["given"]
    # A point without a label is inside.
    assert (given["points"], given["boxes"]) == ([[1, 2, 1], [3, 4, 0]], [[0, 0, 9, 9]])
    assert (given["random_weights"], given["picture_name"]) == (True, str(picture))
    assert given["contract"]["name"] == "words"


def test_what_is_not_there_is_told_before_anything_runs(kiln: Kiln, picture: Path) -> None:
    (target,) = kiln.targets(TARGET)
    gone = picture.with_name("gone.png")
    with pytest.raises(UsageError, match="There is no picture"):
        predict(kiln, target, gone, overlay=picture.with_name("seen.png"))
    with pytest.raises(UsageError, match="There is no mask"):
        predict(kiln, target, picture, mask=gone, overlay=picture.with_name("seen.png"))


def test_nothing_that_was_given_is_replaced(kiln: Kiln, picture: Path) -> None:
    (target,) = kiln.targets(TARGET)
    mask = picture.with_name("mask.png")
    mask.write_text("a mask")
    picture.with_name("link.png").symlink_to(mask)
    for overlay in (picture, mask, picture.with_name("link.png")):
        with pytest.raises(UsageError, match="would replace"):
            predict(kiln, target, picture, mask=mask, overlay=overlay)
    assert (picture.read_text(), mask.read_text()) == ("a cat", "a mask")


def test_graphs_that_were_changed_are_not_run(kiln: Kiln, picture: Path, built: Path) -> None:
    (target,) = kiln.targets(TARGET)
    path = folder(built) / "words.txt"
    path.unlink()
    path.write_text("other words")
    with pytest.raises(VerificationFailure, match="differ from the manifest"):
        predict(kiln, target, picture, overlay=picture.with_name("seen.png"))
