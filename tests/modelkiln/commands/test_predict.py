"""`invoke predict`: a picture through a built target, what is refused, and where pictures go."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands.predict import predict_picture
from modelkiln.errors import KilnError, UsageError

MakeKiln = Callable[..., Kiln]
Invoke = Callable[..., "subprocess.CompletedProcess[str]"]
TARGET = "toy_a/words/toy-text"
STAGE = '''
"""Toy prediction: pictures that are texts."""

import json

from exporters.protocol import BAD_INPUT, Result, StageError, Step


def run(step: Step) -> Result:
    """Writes overlay.png and letters.png."""
    picture = step.input("picture").read_text()
    if picture == "broken":
        raise StageError("The picture is broken.", "It says so.", "Fix it.", exit_code=BAD_INPUT)
    words = step.input("words.txt").read_text()
    pictures = {"overlay": f"{words} {picture}", "letters": str(len(picture))}
    for name, text in pictures.items():
        (step.out / f"{name}.png").write_text(text)
    metrics = {
        "says": [f"{len(picture)} letters", step.provider().LINE],
        "pictures": list(pictures),
        "given": json.loads(json.dumps(dict(step.params))),
        "inputs": sorted(step.inputs),
    }
    return Result(outputs=[f"{name}.png" for name in pictures], metrics=metrics)
'''


@pytest.fixture
def family(toy_copy: Path) -> Path:
    """The toy's catalog with a stage `predict`, added by files alone."""
    (toy_copy / "exporters" / "stages" / "predict.py").write_text(STAGE)
    (toy_copy / "exporters" / "toy" / "predict.py").write_text('LINE = "and no more"\n')
    contract = toy_copy / "contracts" / "words.toml"
    text = contract.read_text().replace('uses = ["track"]', 'uses = ["predict", "track"]')
    contract.write_text(f'yields = "text"\n{text}')
    return toy_copy


@pytest.fixture
def kiln(family: Path, make_kiln: MakeKiln, built: Path) -> Kiln:
    """A kiln with the toy built."""
    return make_kiln(runner="local")


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture in the current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("cat.jpg").write_text("a cat")
    return Path("cat.jpg")


def here() -> dict[str, str]:
    return {path.name: path.read_text() for path in Path().iterdir() if path.is_file()}


def test_the_overlay_goes_where_it_is_wanted_and_the_rest_beside_it(
    kiln: Kiln, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict_picture(kiln, TARGET, str(picture), out="new/seen.PNG")
    assert {path.name: path.read_text() for path in Path("new").iterdir()} == {
        "seen.PNG": "words: seed 0. a cat",
        "seen.letters.png": "5",
    }
    assert capsys.readouterr().out.splitlines() == [
        "5 letters",
        "and no more",
        "random weights: this text means nothing",
        "overlay  new/seen.PNG",
        "letters  new/seen.letters.png",
    ]
    assert here() == {"cat.jpg": "a cat"}


def test_pictures_that_are_there_are_replaced(kiln: Kiln, picture: Path) -> None:
    Path("overlay.png").symlink_to("aim.png")
    Path("overlay.letters.png").write_text("old")
    predict_picture(kiln, TARGET, str(picture))
    assert Path("overlay.png").is_symlink()
    assert here() == {
        "cat.jpg": "a cat",
        "aim.png": "words: seed 0. a cat",
        "overlay.png": "words: seed 0. a cat",
        "overlay.letters.png": "5",
    }


def test_the_stage_is_given_what_was_said(
    kiln: Kiln, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("guess.png").write_text("guess")
    predict_picture(
        kiln,
        TARGET,
        str(picture),
        points=["1,2", "3,4.5,0"],
        boxes=["1,2,3,4"],
        mask="guess.png",
        as_json=True,
    )
    found = json.loads(capsys.readouterr().out)
    assert found["inputs"] == ["mask", "picture", "words.txt"]
    assert found["given"].pop("contract")["yields"] == "text"
    assert found["given"] == {
        "points": [[1.0, 2.0, 1], [3.0, 4.5, 0.0]],
        "boxes": [[1.0, 2.0, 3.0, 4.0]],
        "random_weights": True,
        "picture_name": "cat.jpg",
    }


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"image": "dog.jpg"}, "There is no picture dog.jpg"),
        ({"image": "room"}, "There is no picture room"),
        ({"mask": "guess.png"}, "There is no mask guess.png"),
        ({"points": ["1"]}, "is not a point"),
        ({"points": ["1,nan"]}, "is not a point"),
        ({"boxes": ["1,2,3"]}, "is not a box"),
        ({"out": "seen.jpg"}, "is not a PNG"),
        ({"out": "room.png"}, "A folder has this name"),
        ({"out": "cat.jpg/seen.png"}, "A file stands where its folder should be"),
        ({"image": "me.png", "out": "../here/me.png"}, "which was given"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(
    kiln: Kiln,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
    said: str,
) -> None:
    Path("room").mkdir()
    Path("room.png").mkdir()
    Path("me.png").write_text("me")
    before = here()

    def start(*given: object, **named: object) -> None:
        raise AssertionError("it was started")

    monkeypatch.setattr("modelkiln.building.predict.run_once", start)
    with pytest.raises(UsageError) as caught:
        predict_picture(kiln, **{"text": TARGET, "image": str(picture), **changed})
    assert said in str(caught.value)
    assert here() == before


def test_a_stage_that_fails_leaves_what_was_there(kiln: Kiln, picture: Path) -> None:
    picture.write_text("broken")
    Path("overlay.png").write_text("old")
    with pytest.raises(UsageError, match="The picture is broken"):
        predict_picture(kiln, TARGET, str(picture))
    assert here() == {"cat.jpg": "broken", "overlay.png": "old"}


@pytest.mark.parametrize("in_the_way", ["a folder", "the picture"])
def test_pictures_are_delivered_all_or_none(kiln: Kiln, picture: Path, in_the_way: str) -> None:
    Path("overlay.png").write_text("old")
    if in_the_way == "a folder":
        Path("overlay.letters.png").mkdir()
    else:
        picture = picture.rename("overlay.letters.png")
    before = here()
    with pytest.raises(UsageError, match=r"overlay\.letters\.png"):
        predict_picture(kiln, TARGET, str(picture))
    assert here() == before


def test_a_disk_that_refuses_the_last_picture_keeps_the_old_ones(
    kiln: Kiln, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(target).name == "overlay.letters.png":
            raise OSError("the disk is worn out")
        rename(source, target)

    for name in ("overlay.png", "overlay.letters.png"):
        Path(name).write_text("old")
    before = here()
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(KilnError):
        predict_picture(kiln, TARGET, str(picture))
    assert here() == before


def test_the_command_line_takes_a_picture_without_prompts(
    family: Path, invoke: Invoke, picture: Path
) -> None:
    local = ("--weights", "random", "--runner", "local")
    assert invoke("build", TARGET, *local).returncode == 0
    out = picture.resolve().with_name("seen.png")
    done = invoke("predict", TARGET, str(picture.resolve()), "--out", str(out), *local)
    assert done.returncode == 0, done.stderr
    assert f"letters  {out.with_name('seen.letters.png')}" in done.stdout
    assert out.read_text() == "words: seed 0. a cat"
