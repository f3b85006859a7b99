"""Results are put in their place whole or not at all, wherever that is."""

import errno
import os
from pathlib import Path

import pytest

from modelkiln.errors import KilnError, UsageError
from modelkiln.util.places import deliver_file, deliver_files, deliver_folder, require_place


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


@pytest.mark.parametrize("is_apart", [False, True], ids=["beside", "apart"])
def test_several_files_replace_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_apart: bool
) -> None:
    made, room = make_files(tmp_path / "made"), tmp_path / "room"
    room.mkdir()
    (room / "a").write_text("old")
    if is_apart:
        apart(monkeypatch, tmp_path / "made")
    deliver_files({room / name: path for name, path in made.items()})
    assert {one.name: one.read_text() for one in room.iterdir()} == {"a": "a", "b": "b"}
    assert {one.stat().st_mode & 0o777 for one in room.iterdir()} == {0o644}


@pytest.mark.parametrize("fault", ["no file", "in the way", "interrupted"])
def test_several_files_are_put_all_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    made, room = make_files(tmp_path / "made"), tmp_path / "room"
    room.mkdir()
    for name in ("b", "c"):
        (room / name).write_text("old")
    files = {room / "a": made["a"], room / "b": made["b"], room / "c": tmp_path / "made" / "c"}
    if fault == "no file":
        (tmp_path / "made" / "c").mkdir()
    else:
        (tmp_path / "made" / "c").write_text("new")
    if fault == "in the way":
        (room / "c").unlink()
        (room / "c").mkdir()
    if fault == "interrupted":
        rename = os.rename

        def interrupt(source: Path, target: Path) -> None:
            if Path(target) == room / "c":
                raise KeyboardInterrupt
            rename(source, target)

        monkeypatch.setattr(os, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt if fault == "interrupted" else KilnError):
        deliver_files(files)
    assert sorted(one.name for one in room.iterdir()) == ["b", "c"]
    assert (room / "b").read_text() == "old"
    assert (room / "c").is_dir() or (room / "c").read_text() == "old"
