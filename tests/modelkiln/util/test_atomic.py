"""Files that are whole or absent; the store's own tests kill it in the middle of this."""

import errno
import os
from pathlib import Path

import pytest

from modelkiln.errors import KilnError, OutOfSpace, StoreError
from modelkiln.util import atomic
from modelkiln.util.atomic import (
    TEMP_PREFIX,
    clone,
    commit,
    copy_hashed,
    disk_errors,
    explain,
    make_folder,
    reap_temporary,
    sync_folder,
    temporary,
    write_all,
    write_file,
)
from modelkiln.util.hashing import sha256_bytes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folders_and_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "file"
    before = os.umask(0o077)
    try:
        write_file(path, b"one", 0o644)
        write_file(path, b"two", 0o444)
    finally:
        os.umask(before)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o444)
    assert names(path.parent) == ["file"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("kept")
    write_file(tmp_path / "link", b"new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "kept").read_bytes() == b"kept"


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OutOfSpace, match="while writing file: need 3 bytes, have "):
            write_file(path, b"new")
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["file"])


def test_a_new_name_whose_folder_cannot_be_synced_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(atomic, "sync_folder", fail)
    for name, left in (("old", True), ("new", False)):
        final = tmp_path / name
        if left:
            final.write_bytes(b"old")
        with temporary(tmp_path) as (descriptor, temp):
            write_all(descriptor, b"new")
            with pytest.raises(OSError, match="Input/output"):
                commit(descriptor, temp, final, 0o644)
        assert final.exists() == left


def test_what_a_power_cut_may_take_is_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_file(tmp_path / "a", b"1", durable=False)
    assert synced == []
    write_file(tmp_path / "b", b"1")
    assert len(synced) == 2, "the file, and the folder with its name"


def test_a_folder_is_synced_into_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(atomic, "sync_folder", synced.append)
    make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2


@pytest.mark.parametrize(("number", "raised"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_filesystem_that_syncs_no_folders_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raised: bool
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if raised:
        with pytest.raises(OSError, match="error"):
            sync_folder(tmp_path)
    else:
        sync_folder(tmp_path)


def test_a_copy_is_told_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "CHUNK", 7)
    data = bytes(range(100))
    (tmp_path / "source").write_bytes(data)
    with (tmp_path / "source").open("rb") as source, (tmp_path / "copy").open("wb") as target:
        told = copy_hashed(source.fileno(), target.fileno())
    assert told == (sha256_bytes(data), len(data))
    assert (tmp_path / "copy").read_bytes() == data


def test_a_clone_that_the_filesystem_cannot_make_is_said(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"data")
    with (tmp_path / "source").open("rb") as source, (tmp_path / "copy").open("wb") as target:
        done = clone(source.fileno(), target.fileno())
    assert (tmp_path / "copy").read_bytes() == (b"data" if done else b"")


def test_only_the_files_of_dead_writers_are_reaped(tmp_path: Path) -> None:
    dead = tmp_path / f"{TEMP_PREFIX}1-dead"
    dead.write_text("half")
    (tmp_path / "other").write_text("")
    with temporary(tmp_path) as (_, alive):
        assert reap_temporary(tmp_path, dry_run=True) == [dead]
        assert dead.exists()
        assert reap_temporary(tmp_path) == [dead]
        assert names(tmp_path) == sorted([alive.name, "other"])
    assert reap_temporary(tmp_path / "gone") == []


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, OutOfSpace, "Disk full while storing a: need 2.0 kB, have "),
        (errno.EDQUOT, OutOfSpace, "quota"),
        (errno.EROFS, StoreError, "cannot be written while storing a"),
        (errno.EACCES, StoreError, "belongs to another user"),
        (errno.EXDEV, StoreError, "spans two filesystems"),
        (errno.EIO, StoreError, "The disk reported an error while storing a"),
    ],
)
def test_what_the_system_says_is_told_in_our_words(
    tmp_path: Path, number: int, kind: type[KilnError], words: str
) -> None:
    error = explain(OSError(number, os.strerror(number)), "storing a", tmp_path / "gone", 2000)
    assert type(error) is kind
    assert words in str(error) and error.next
    with pytest.raises(kind), disk_errors("storing a", tmp_path):
        raise OSError(number, os.strerror(number))
