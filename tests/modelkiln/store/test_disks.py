"""Full, failing and read-only disks: noticed, named, and nothing half is left.

Every part of the store meets them, so they have a file of their own."""

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelkiln.errors import OutOfSpace, StoreError
from modelkiln.store.store import Blob, DamagedBlob, Record, Store
from modelkiln.util.hashing import sha256_bytes
from tests.modelkiln.store.damaging import (
    DATA,
    Warned,
    build,
    flip,
    only_blob,
    replace,
    temporary_files,
)


@pytest.fixture
def store(tmp_path: Path, warned: Warned) -> Store:
    return Store(tmp_path / "artifacts", warn=warned.append)


def fail_with(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("call", "number", "kind", "words"),
    [
        ("fsync", errno.EIO, StoreError, "disk reported an error"),
        ("write", errno.EIO, StoreError, "disk reported an error"),
        ("replace", errno.EXDEV, StoreError, "two filesystems"),
        ("write", errno.ENOSPC, OutOfSpace, "need 5.0 kB, have "),
        ("fsync", errno.ENOSPC, OutOfSpace, "Disk full"),
        ("replace", errno.ENOSPC, OutOfSpace, "Disk full"),
        ("mkdir", errno.ENOSPC, OutOfSpace, "Disk full"),
        ("write", errno.EDQUOT, OutOfSpace, "quota"),
        ("replace", errno.EROFS, StoreError, "read-only"),
        ("mkdir", errno.EACCES, StoreError, "cannot be written"),
        ("fchmod", errno.EPERM, StoreError, "cannot be written"),
    ],
)
def test_a_failed_call_leaves_nothing(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    kind: type[StoreError | OutOfSpace],
    words: str,
) -> None:
    kept = build(store, "kept", b"kept")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail_with(number))
        with pytest.raises(kind, match=words) as caught:
            store.put_bytes(DATA)
        assert type(caught.value) is kind
        assert caught.value.next
    assert not store.has(Blob(sha256=sha256_bytes(DATA), bytes=len(DATA)))
    assert temporary_files(store) == []
    assert store.verify() == []
    assert store.hit(kept.key) == kept
    build(store)


@pytest.mark.parametrize(
    ("act", "failing"),
    [*(("put", n) for n in (1, 2, 3)), *(("publish", n) for n in (1, 2, 3, 4))],
)
def test_a_sync_that_fails_anywhere_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, act: str, failing: int
) -> None:
    store.put_bytes(b"so that cas/ is there")
    real = os.fsync
    calls: list[int] = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    record = Record(key="a" * 64, step="s", document={}, outputs={}, metrics={}, provenance={})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="disk reported an error"):
            store.put_bytes(DATA) if act == "put" else store.publish(record)
    assert len(calls) == failing, "nothing is tried again"
    assert store.record(record.key) is None
    assert not store.has(Blob(sha256=sha256_bytes(DATA), bytes=len(DATA)))
    assert temporary_files(store) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_copy_out_that_fails_leaves_what_was_there(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    blob = store.put_bytes(DATA)
    dest = tmp_path / "out" / "graph.onnx"
    store.materialize(store.put_bytes(b"old"), dest)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail_with(number))
        with pytest.raises((StoreError, OutOfSpace), match=r"graph\.onnx"):
            store.materialize(blob, dest)
    assert dest.read_bytes() == b"old"
    assert [path.name for path in dest.parent.iterdir()] == ["graph.onnx"]


def test_a_lock_without_room_for_its_text_is_a_lock(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail_with(errno.ENOSPC))
        with store.in_use(), store.step_lock("a" * 64), pytest.raises(StoreError):
            store.gc([])


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs for the length of a block."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("mounting a small tmpfs needs root")
    folder.mkdir()
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode != 0:
        pytest.skip(f"no mount here: {made.stderr.decode(errors='replace').strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(store: Store, size: int) -> None:
    for number in range(200):
        build(store, f"s{number}", number.to_bytes(2, "big") * size)


def test_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=600k") as folder:
        store = Store(folder / "artifacts")
        kept = build(store, "kept", b"k" * 100_000)
        big = tmp_path / "big.onnx"
        big.write_bytes(os.urandom(1_000_000))
        with pytest.raises(OutOfSpace) as caught:
            store.put(big)
        assert "Disk full while storing big.onnx: need 1.0 MB, have " in caught.value.what
        assert caught.value.next == "invoke store.gc"
        assert temporary_files(store) == []
        with pytest.raises(OutOfSpace):
            fill(store, 3000)
        assert temporary_files(store) == []
        assert store.verify() == []
        assert store.hit(kept.key) == kept
        store.check(only_blob(kept))
        assert store.gc([kept.key]).bytes_freed > 100_000
        build(store, "again", b"a" * 200_000)
        assert store.verify() == []


def test_a_disk_that_fills_at_each_step_of_a_publish(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=400k") as folder:
        store = Store(folder / "artifacts")
        build(store, "first", b"1")
        outcomes = set()
        room = os.statvfs(folder)
        filler = folder / "filler"
        for left in range(0, 12):
            filler.write_bytes(b"f" * ((room.f_bavail - left) * room.f_bsize))
            step = f"s{left}"
            try:
                build(store, step, b"%d" % left * 3000)
                outcomes.add("built")
            except OutOfSpace:
                outcomes.add("full")
            filler.unlink()
            assert temporary_files(store) == []
            assert store.verify() == []
            store.gc([store.latest("first").key])  # type: ignore[union-attr]
        assert outcomes == {"built", "full"}


def test_a_disk_without_room_for_names(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=4m,nr_inodes=40") as folder:
        store = Store(folder / "artifacts")
        with pytest.raises(OutOfSpace):
            fill(store, 1)
        assert temporary_files(store) == []
        assert store.verify() == []
        with pytest.raises(StoreError, match="No space left"):
            store.gc([])
        shutil.rmtree(store.root)
        with store.in_use():
            pass
        with pytest.raises(OutOfSpace):
            fill(store, 1)
        assert store.gc([]).files > 5, "the disk is full, but room can be made"
        build(store)


@contextlib.contextmanager
def read_only(store: Store, tmp_path: Path) -> Iterator[Store]:
    """The same store where nothing can be written: by its mount for root, else by its modes."""
    if os.geteuid() == 0:
        with mounted(tmp_path / "frozen", "size=8m") as folder:
            shutil.copytree(store.root, folder / "artifacts")
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
            yield Store(folder / "artifacts", warn=store._warn)
        return
    folders = [store.root, *(path for path in store.root.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        yield store
    finally:
        for path in folders:
            path.chmod(0o755)


@pytest.mark.parametrize("with_lock", [True, False])
def test_a_read_only_store_serves_and_refuses(
    store: Store, warned: Warned, tmp_path: Path, with_lock: bool
) -> None:
    record = build(store)
    if with_lock:
        with store.in_use():
            pass
    else:
        shutil.rmtree(store.locks)
    source = tmp_path / "new"
    source.write_bytes(b"new")
    with read_only(store, tmp_path) as frozen:
        with frozen.in_use():
            assert frozen.hit(record.key) == record == frozen.latest("s")
            assert frozen.check(only_blob(record)).read_bytes() == DATA
            frozen.materialize(only_blob(record), tmp_path / "copy")
            assert (tmp_path / "copy").read_bytes() == DATA
        assert (frozen.verify(), frozen.reap()) == ([], [])
        refused: list[Callable[[], object]] = [
            lambda: frozen.put(source),
            lambda: frozen.publish(record),
            lambda: frozen.scratch("s"),
            lambda: frozen.step_lock(record.key).__enter__(),
            lambda: frozen.gc([]),
        ]
        for ask in refused:
            with pytest.raises(StoreError) as caught:
                ask()
            assert str(frozen.root) in str(caught.value)
            assert caught.value.next
            assert caught.value.exit_code == 8
        assert frozen.hit(record.key) == record
    assert warned == []


def test_damage_in_a_read_only_store_is_a_miss(
    store: Store, warned: Warned, tmp_path: Path
) -> None:
    record, other = build(store), build(store, "other", b"other")
    flip(store.blob_path(only_blob(record).sha256))
    replace(store.record_path(other.key), b"{")
    with read_only(store, tmp_path) as frozen:
        for _ in range(2):
            assert frozen.record(other.key) is None
            with pytest.raises(DamagedBlob, match="left where it was"):
                frozen.check(only_blob(record))
        assert len(frozen.verify()) == 2
    assert len(warned) == 2
