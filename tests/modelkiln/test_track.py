"""`invoke track`: what is followed, what is refused before anything starts, and what comes out."""

import errno
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkiln.build import build
from modelkiln.commands.track import find_frames, track_video
from modelkiln.deliver import deliver_file, deliver_folder, require_place
from modelkiln.errors import KilnError, UsageError
from modelkiln.kiln import Kiln
from modelkiln.video_prompts import MAX_OBJECTS, VideoPrompt, read_video_prompts

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
def kiln(make_kiln: MakeKiln) -> Kiln:
    """A kiln with the toy built."""
    made = make_kiln(runner="local")
    build(made, made.targets(TARGET))
    return made


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
    with pytest.raises(UsageError, match="frame 1 is broken"):
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
        (pipe, "It is no plain file"),
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
        ({"boxes": []}, "Nothing was said to follow"),
        ({"boxes": ["1,2"]}, "is no box"),
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
    lacks, made_for = done.stderr.split("made for it: ")
    if stage == "track":
        assert "no memory modules" in lacks
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


def test_boxes_count_from_one_and_points_may_name_them() -> None:
    found = read_video_prompts(
        ["0,0,1,1", "2:0,0,2,2", "0,0,3,3@4"], ["5,5", "6,6,0", "7,7@4", "1:8,8@4", "2:9,9,1"]
    )
    assert found == [
        VideoPrompt(object=1, frame=0, box=(0.0, 0.0, 1.0, 1.0)),
        VideoPrompt(object=2, frame=0, points=((9.0, 9.0, 1),), box=(0.0, 0.0, 2.0, 2.0)),
        VideoPrompt(object=4, frame=0, points=((5.0, 5.0, 1), (6.0, 6.0, 0))),
        VideoPrompt(object=1, frame=4, points=((8.0, 8.0, 1),)),
        VideoPrompt(object=3, frame=4, box=(0.0, 0.0, 3.0, 3.0)),
        VideoPrompt(object=5, frame=4, points=((7.0, 7.0, 1),)),
    ]


@pytest.mark.parametrize(
    ("boxes", "points", "said"),
    [
        (["1,2,3"], [], "is no box"),
        (["1,2,3,nan"], [], "is no box"),
        (["1,2,3,4@"], [], "is no box"),
        (["1,2,3,4@-1"], [], "is no box"),
        (["a:1,2,3,4"], [], "is no box"),
        (["1:2:1,2,3,4"], [], "is no box"),
        ([""], [], "is no box"),
        ([], ["1"], "is no point"),
        ([], ["1,2,3,4"], "is no point"),
        ([], ["1,inf"], "is no point"),
        ([], ["1,2,2"], "has the label 2"),
        ([], ["1,2,0.5"], "has the label 0.5"),
        ([], ["0:1,2"], "numbers 1 to 255"),
        ([], ["256:1,2"], "numbers 1 to 255"),
        (["1:0,0,1,1", "1:0,0,2,2"], [], "two boxes on frame 0"),
        (["0,0,1,1"] * 256, [], "256 objects are more"),
        (["0,0,1,1"] * MAX_OBJECTS, ["1,1@3"], f"At most {MAX_OBJECTS} are"),
        ([], [f"{number}:1,1@{number}" for number in range(200, 221)], f"At most {MAX_OBJECTS}"),
    ],
)
def test_a_wrong_prompt_is_refused(boxes: list[str], points: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_video_prompts(boxes, points)
    assert said in str(caught.value)
    assert caught.value.next


@given(st.lists(st.text(alphabet="0123456789:,@.-e ", max_size=12), max_size=3), st.booleans())
def test_no_text_breaks_the_prompts(texts: list[str], boxes: bool) -> None:
    try:
        found = read_video_prompts(texts if boxes else [], [] if boxes else texts)
    except UsageError:
        return
    assert all(1 <= one.object <= 255 and one.frame >= 0 for one in found)
    assert all(one.points or one.box for one in found)


def test_as_many_objects_as_the_stage_takes() -> None:
    assert len(read_video_prompts(["0,0,1,1"] * MAX_OBJECTS, [])) == MAX_OBJECTS
    named = [f"{number}:1,1@{number % 2}" for number in range(256 - MAX_OBJECTS, 256)]
    assert len(read_video_prompts([], named * 2)) == MAX_OBJECTS
    stage = Path(__file__).parents[2] / "exporters" / "object_prompts.py"
    found = re.findall(r"^MAX_OBJECTS\b.* = ([0-9]+)$", stage.read_text(), re.MULTILINE)
    assert found == [str(MAX_OBJECTS)]


@pytest.mark.parametrize(
    ("boxes", "points", "said"),
    [
        (
            ["0,0,1,1"],
            ["9,9@12"],
            "points without a number are object 2; write 1:9,9@12 to correct object 1\n",
        ),
        (
            ["3:0,0,1,1"],
            ["1:5,5", "9,9,0@12", "8,8@12", "7,7@4"],
            "points without a number are objects 4 (frame 4), 2 (frame 12); "
            "write 3:9,9,0@12 to correct object 3\n",
        ),
        (["0,0,1,1"], ["1:9,9@12"], ""),
        (["0,0,1,1"], [], ""),
        ([], ["9,9", "8,8@12"], ""),
    ],
)
def test_points_beside_boxes_say_whose_they_are(
    capsys: pytest.CaptureFixture[str], boxes: list[str], points: list[str], said: str
) -> None:
    read_video_prompts(boxes, points)
    assert capsys.readouterr() == ("", said)


def make_files(folder: Path) -> dict[str, Path]:
    folder.mkdir()
    made = {name: folder / name for name in ("a", "b")}
    for name, path in made.items():
        path.write_text(name)
        path.chmod(0o600)
    return made


def apart(monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
    """Let this folder seem to be on a filesystem of its own."""
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source).parent == made:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)


@pytest.mark.parametrize("is_apart", [False, True], ids=["beside", "apart"])
@pytest.mark.parametrize("stands", [False, True], ids=["free", "standing"])
def test_files_are_moved_or_else_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_apart: bool, stands: bool
) -> None:
    made, place, video = make_files(tmp_path / "made"), tmp_path / "room", tmp_path / "out.mp4"
    if stands:
        place.mkdir()
        video.write_text("old")
    numbers = {name: path.stat().st_ino for name, path in made.items()}
    if is_apart:
        apart(monkeypatch, tmp_path / "made")
    deliver_folder(made, place)
    assert {one.name: one.read_text() for one in place.iterdir()} == {"a": "a", "b": "b"}
    assert {one.stat().st_mode & 0o777 for one in place.iterdir()} == {0o644}
    same = {name: (place / name).stat().st_ino == number for name, number in numbers.items()}
    assert same == dict.fromkeys("ab", not is_apart)
    assert {path.exists() for path in made.values()} == {is_apart}
    source = tmp_path / "made" / "video"
    source.write_text("new")
    number = source.stat().st_ino
    deliver_file(source, video)
    assert video.read_text() == "new" and video.stat().st_mode & 0o777 == 0o644
    assert (video.stat().st_ino == number) is not is_apart
    assert {one.name for one in tmp_path.iterdir()} == {"made", "room", "out.mp4"}


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


def test_a_place_is_the_one_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "to")
    (tmp_path / "new.mp4").symlink_to("to/absent.mp4")
    assert require_place(tmp_path / "link", "--out", folder=True) == tmp_path / "to"
    place = require_place(tmp_path / "new.mp4", "--out", folder=False)
    assert place == tmp_path / "to" / "absent.mp4"
    made = make_files(tmp_path / "made")
    deliver_file(made["a"], place)
    assert (tmp_path / "new.mp4").is_symlink() and (tmp_path / "new.mp4").read_text() == "a"
    with pytest.raises(UsageError, match="is a folder that is not empty"):
        require_place(tmp_path / "link", "--out", folder=True)
    with pytest.raises(UsageError, match="not empty any more"):
        deliver_folder(made, tmp_path / "to")
    assert made["b"].exists()


@pytest.mark.parametrize("name", ["", "new", "new/er"])
def test_a_folder_that_nothing_may_be_put_into_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def may(path: Path, mode: int) -> bool:
        return not mode & os.W_OK

    monkeypatch.setattr(os, "access", may)
    with pytest.raises(UsageError, match="cannot be written"):
        require_place(tmp_path / name, "--out", folder=True)


@pytest.mark.parametrize("stands", [False, True], ids=["free", "standing"])
@pytest.mark.parametrize("is_apart", [False, True], ids=["beside", "apart"])
def test_what_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_apart: bool, stands: bool
) -> None:
    place, made, room = tmp_path / "out.mp4", tmp_path / "made", tmp_path / "room"
    files = make_files(made)
    place.write_text("old")
    if stands:
        room.mkdir()
    if is_apart:
        apart(monkeypatch, made)
    with pytest.raises(KilnError):
        deliver_file(made, place)
    assert place.read_text() == "old"
    with pytest.raises(KilnError):
        deliver_folder({**files, "c": tmp_path / "gone"}, room)
    left = {"made", "out.mp4", *(["room"] if stands else [])}
    assert {one.name for one in tmp_path.iterdir()} == left
    assert not stands or not list(room.iterdir())
