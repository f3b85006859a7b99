"""`invoke track`: what is followed, what is refused before anything starts, and what comes out."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands.track import find_frames, track_video
from modelkiln.errors import UsageError

MakeKiln = Callable[..., Kiln]
Invoke = Callable[..., "subprocess.CompletedProcess[str]"]
TARGET = "toy_a/words/toy-text"
BOX = "0,0,4,3"


def make_video(folder: Path, *lines: str) -> Path:
    path = folder / "clip.mov"
    path.write_text("\n".join(lines or ("first", "second", "third")))
    return path


def make_frames(folder: Path, *names: str) -> Path:
    room = folder / "clip"
    room.mkdir()
    for name in names:
        (room / name).write_text(name)
    return room


@pytest.fixture
def kiln(make_kiln: MakeKiln, built: Path) -> Kiln:
    """A kiln with the toy built."""
    return make_kiln(runner="local")


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_video_is_followed(
    kiln: Kiln, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, out, masks = make_video(tmp_path), tmp_path / "new" / "out.mp4", tmp_path / "m"
    track_video(kiln, TARGET, str(video), boxes=[BOX], out=str(out), masks=str(masks))
    assert out.read_text() == "words: seed 0.\nfirst\nsecond\nthird"
    assert sorted(one.name for one in masks.iterdir()) == [f"0000{n}.png" for n in range(3)]
    assert (masks / "00001.png").read_text() == "words: seed 0. second"
    assert capsys.readouterr().out.splitlines() == [
        "3 frames of 4 x 3 pixels",
        "object 1: from frame 0, visible on 2 of 3, covers 25.0% of a frame on average",
        "graphs   words 3 x 1.50 s",
        "random weights: this mask means nothing",
        f"overlay  {out}",
        f"masks    {masks}",
    ]
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "artifacts", "clip.mov", "m", "new",
    ]  # fmt: skip
    assert [one.name for one in out.parent.iterdir()] == ["out.mp4"]


def test_a_folder_is_followed_in_its_natural_order(
    kiln: Kiln, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = make_frames(tmp_path, "f10.PNG", "f2.jpg", "f1.jpeg", "notes.txt", ".hidden.png")
    out = tmp_path / "out"
    out.mkdir()
    track_video(kiln, TARGET, str(video), points=["1,1"], out=str(out), as_json=True)
    assert [(out / f"0000{n}.png").read_text() for n in range(3)] == [
        "words: seed 0. frames/00000.jpeg f1.jpeg",
        "words: seed 0. frames/00001.jpg f2.jpg",
        "words: seed 0. frames/00002.png f10.PNG",
    ]
    assert len(list(out.iterdir())) == 3
    said = capsys.readouterr()
    assert "left out 1 of 4 files" in said.err
    metrics = json.loads(said.out)
    assert metrics["given"]["as_video"] is False
    assert metrics["given"]["video_name"] == str(video)
    assert metrics["given"]["frame_names"] == ["f1.jpeg", "f2.jpg", "f10.PNG"]
    assert metrics["given"]["masks"] is False
    assert not (tmp_path / "masks").exists()


def test_the_stage_is_given_what_was_said(
    kiln: Kiln, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    track_video(
        kiln,
        TARGET,
        str(make_video(tmp_path)),
        boxes=["2:0,0,4,3@1"],
        points=["1,1", "2:1,1,0@2"],
        out=str(tmp_path / "out.mp4"),
        masks=str(tmp_path / "masks"),
        as_json=True,
    )
    found = told(capsys)
    assert [(one["object"], one["frame"]) for one in found["tracks"]] == [
        (number, frame) for frame in range(3) for number in (1, 2)
    ]
    assert found["tracks"][0] == {
        "object": 1, "frame": 0, "iou": 0.9, "occlusion": 4.0, "visible": True, "coverage": 0.25,
    }  # fmt: skip
    assert [one["object"] for one in found["objects"]] == [1, 2]
    given_ = found["given"]
    assert given_.pop("contract")["name"] == "words"
    assert given_ == {
        "prompts": [
            {"object": 1, "frame": 0, "points": [[1.0, 1.0, 1]], "box": None},
            {"object": 2, "frame": 1, "points": [], "box": [0.0, 0.0, 4.0, 3.0]},
            {"object": 2, "frame": 2, "points": [[1.0, 1.0, 0]], "box": None},
        ],
        "random_weights": True,
        "video_name": str(tmp_path / "clip.mov"),
        "as_video": True,
        "masks": True,
    }


def test_a_video_that_is_there_is_replaced_and_a_folder_is_not(kiln: Kiln, tmp_path: Path) -> None:
    video, out, room = make_video(tmp_path), tmp_path / "out.mp4", tmp_path / "room"
    out.write_text("old")
    track_video(kiln, TARGET, str(video), boxes=[BOX], out=str(out))
    assert out.read_text().startswith("words")
    track_video(kiln, TARGET, str(video), boxes=[BOX], out=str(room))
    (room / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is a folder that is not empty"):
        track_video(kiln, TARGET, str(video), boxes=[BOX], out=str(room))
    with pytest.raises(UsageError, match=r"--masks .* is a folder that is not empty"):
        track_video(kiln, TARGET, str(video), boxes=[BOX], out=str(out), masks=str(room))
    assert (room / "mine.txt").read_text() == "mine"


def test_a_failed_stage_leaves_nothing(kiln: Kiln, tmp_path: Path) -> None:
    video = make_video(tmp_path, "first", "broken")
    out, masks = tmp_path / "out", tmp_path / "masks"
    with pytest.raises(UsageError, match="Frame 1 is broken"):
        track_video(kiln, TARGET, str(video), boxes=[BOX], out=str(out), masks=str(masks))
    assert {one.name for one in tmp_path.iterdir()} == {"artifacts", "clip.mov"}


def nothing(folder: Path) -> str:
    return str(folder / "none.mp4")


def empty_file(folder: Path) -> str:
    (folder / "empty.mp4").touch()
    return str(folder / "empty.mp4")


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return str(folder / "pipe")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (nothing, "There is no video"),
        (empty_file, "It is empty"),
        (pipe, "It is not a plain file"),
        (lambda folder: str(make_frames(folder)), "Of 0 files none"),
        (lambda folder: str(make_frames(folder, "a.txt", "b.mp4")), "Of 2 files none"),
        (lambda folder: str(make_frames(folder, "a.png", "b.txt")), "invoke predict"),
    ],
    ids=["missing", "empty", "pipe", "empty-folder", "no-picture", "one-picture"],
)
def test_a_video_that_is_none_is_refused(
    tmp_path: Path, make: Callable[[Path], str], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        find_frames(Path(make(tmp_path)))
    assert said in str(caught.value)


def test_many_frames_have_names_of_one_length(tmp_path: Path) -> None:
    room = tmp_path / "many"
    room.mkdir()
    source = tmp_path / "one.jpg"
    source.write_text("x")
    frames = [f"{number}.jpg" for number in range(1200)]
    for name in frames:
        (room / name).symlink_to(source)
    names = find_frames(room)
    assert list(names) == sorted(names) and len(names) == 1200
    assert [path.name for path in names.values()] == frames


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"out": "clip.mov/out.mp4"}, "A file stands where"),
        ({"out": "out.mov"}, "written as .mp4 only, not as .mov"),
        ({"out": "out.AVI"}, "written as .mp4 only, not as .AVI"),
        *(({"out": f"out.{one}"}, "or a folder") for one in ("mkv", "webm", "m4v", "gif")),
        ({"out": "circle.mp4"}, "cannot be written"),
        ({"boxes": ["0,0,1,1"] * 21}, "At most 20"),
        ({"out": "taken"}, "A file has this name"),
        ({"out": "room.mp4"}, "A folder has this name"),
        ({"out": "same", "masks": "./same"}, "lie in one another"),
        ({"out": "same", "masks": "same/masks"}, "lie in one another"),
        ({"out": "same/out.mp4", "masks": "same"}, "lie in one another"),
        ({"masks": "taken"}, "A file has this name"),
        ({"out": "clip.mp4", "video": "clip.mp4"}, "is the video itself"),
        ({"boxes": []}, "No object to follow"),
        ({"boxes": ["1,2"]}, "is not a box"),
        ({"text": "toy_*/words/toy-text"}, "names 4 targets"),
        ({"text": "toy_b/words/toy-text"}, "has not been built"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(
    kiln: Kiln,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path)
    Path("clip.mp4").write_text("a\nb")
    Path("taken").touch()
    Path("room.mp4").mkdir()
    Path("circle.mp4").symlink_to("circle.mp4")
    before = sorted(tmp_path.iterdir())

    def start(*given: object, **named: object) -> None:
        raise AssertionError("it was started")

    monkeypatch.setattr("modelkiln.commands.track.run_once", start)
    told_: dict[str, Any] = {"text": TARGET, "video": "clip.mov", "boxes": [BOX], "out": "out.mp4"}
    with pytest.raises(UsageError) as caught:
        track_video(kiln, **{**told_, **changed})
    assert said in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("stage", ["track", "predict"])
def test_a_contract_that_is_not_made_for_it_says_which_is(
    invoke: Invoke, tmp_path: Path, stage: str
) -> None:
    target = {"track": "sam2.1_hiera_tiny/image/onnx-fp32", "predict": TARGET}[stage]
    video = make_video(tmp_path)
    done = invoke(stage, target, str(video), "--box", BOX, "--weights", "random")
    assert done.returncode == 2
    assert f"cannot be used with invoke {stage}" in done.stderr
    lacks, made_for = done.stderr.split(f"made for invoke {stage}: ")
    if stage == "track":
        assert "Its contract, image, is for invoke predict;" in lacks
        assert "words" in made_for and "image" not in made_for.split(".")[0]
    else:
        assert "image" in made_for
    assert "For example: invoke build " in made_for


def test_the_command_line_repeats_prompts(invoke: Invoke, tmp_path: Path) -> None:
    video, out = make_video(tmp_path), tmp_path / "out.mp4"
    local = ("--weights", "random", "--runner", "local")
    assert invoke("build", TARGET, *local).returncode == 0
    done = invoke(
        "track", TARGET, str(video), "--box", BOX, "--box", "0,0,1,1@1", "--point", "9:1,2",
        "--out", str(out), "--json", *local,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {one["object"] for one in json.loads(done.stdout)["tracks"]} == {1, 2, 9}
    assert out.is_file()
    shown = invoke("--help", "track").stdout
    assert "[OBJECT:]x0,y0,x1,y1[@FRAME]" in shown and "[OBJECT:]x,y[,label][@FRAME]" in shown


@pytest.mark.parametrize("name", [".", "link", "../here/../link"])
def test_an_empty_folder_is_filled_where_it_is(
    kiln: Kiln, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    video, here = make_video(tmp_path), tmp_path / "here"
    here.mkdir()
    (tmp_path / "link").symlink_to(here)
    monkeypatch.chdir(here if name == "." else tmp_path)
    if name.startswith(".."):
        monkeypatch.chdir(here)
    number = here.stat().st_ino
    track_video(kiln, TARGET, str(video), boxes=[BOX], out=name)
    assert here.stat().st_ino == number and (tmp_path / "link").is_symlink()
    assert sorted(one.name for one in here.iterdir()) == [f"0000{n}.png" for n in range(3)]
