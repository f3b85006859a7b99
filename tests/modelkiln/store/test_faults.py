"""Damage, full disks and read-only folders: noticed at use, named, never served, never a crash."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelkiln.errors import OutOfSpace, StoreError
from modelkiln.store.audit import ProblemKind
from modelkiln.store.quarantine import move_aside
from modelkiln.store.store import Blob, DamagedBlob, Record, Store
from modelkiln.util import atomic
from modelkiln.util.hashing import sha256_bytes, sha256_json

DATA = b"graph" * 1000


class Warned(list[str]):
    """The warnings of a store."""


@pytest.fixture
def warned() -> Warned:
    return Warned()


@pytest.fixture
def store(tmp_path: Path, warned: Warned) -> Store:
    return Store(tmp_path / "artifacts", warn=warned.append)


def build(store: Store, step: str = "s", data: bytes = DATA) -> Record:
    document = {"step": step}
    return store.publish(
        Record(
            key=sha256_json(document),
            step=step,
            document=document,
            outputs={"out.bin": store.put_bytes(data)},
            metrics={},
            provenance={},
        )
    )


def only_blob(record: Record) -> Blob:
    return record.outputs["out.bin"]


def temporary_files(store: Store) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.name.startswith(atomic.TEMP_PREFIX)]


# A damaged file


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    replace(path, bytes(data))


def replace(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def truncate(path: Path) -> None:
    replace(path, DATA[:-1])


def extend(path: Path) -> None:
    replace(path, DATA + b"x")


def empty(path: Path) -> None:
    replace(path, b"")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inner").write_text("x")


def link_outside(path: Path) -> None:
    outside = path.parents[3] / "outside"
    outside.write_bytes(DATA)
    path.unlink()
    path.symlink_to(outside)


def link_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere")


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = [flip, truncate, extend, empty, make_folder, link_outside, link_nowhere, make_pipe]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("use", ["check", "materialize"])
def test_a_damaged_file_is_noticed_at_use_and_mended(
    store: Store, warned: Warned, tmp_path: Path, damage: Callable[[Path], None], use: str
) -> None:
    record = build(store)
    blob = only_blob(record)
    path = store.blob_path(blob.sha256)
    damage(path)
    dest = tmp_path / "dest"
    dest.write_text("as before")
    for attempt in range(2):
        with pytest.raises(DamagedBlob) as caught:
            store.check(blob) if use == "check" else store.materialize(blob, dest)
        assert caught.value.exit_code == 8
        assert str(path) in str(caught.value)
        assert caught.value.blob == blob
        aside = caught.value.quarantined
        assert (aside is not None and os.path.lexists(aside)) == (attempt == 0)
    assert len(warned) == 1, "the damage; that it is missing then is no news"
    assert dest.read_text() == "as before"
    assert not os.path.lexists(path)
    assert store.hit(record.key) is None
    assert build(store) == record == store.hit(record.key)
    assert store.check(blob).read_bytes() == DATA
    assert store.verify() == []
    assert temporary_files(store) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_names_a_damaged_file_and_moves_it_only_on_request(
    store: Store, damage: Callable[[Path], None]
) -> None:
    record = build(store)
    build(store, "other", b"fine")
    path = store.blob_path(only_blob(record).sha256)
    damage(path)
    for repair in (False, True):
        (problem,) = store.verify(repair=repair)
        assert (problem.kind, problem.path) == (ProblemKind.DAMAGED_FILE, path)
        assert problem.steps == ("s",)
    (problem,) = store.verify()
    assert (problem.kind, problem.path) == (ProblemKind.MISSING_FILE, path)
    build(store)
    assert store.verify() == []


@pytest.mark.parametrize("damage", [d for d in DAMAGES if d is not flip])
def test_damage_that_shows_without_reading_is_a_miss(
    store: Store, damage: Callable[[Path], None]
) -> None:
    record = build(store)
    damage(store.blob_path(only_blob(record).sha256))
    assert not store.has(only_blob(record))
    assert store.hit(record.key) is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_storing_again_mends_unseen_damage(
    store: Store, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    blob = store.put_bytes(DATA)
    damage(store.blob_path(blob.sha256))
    assert store.put_bytes(DATA) == blob
    store.check(blob)
    outside = tmp_path / "outside"
    assert not outside.exists() or outside.read_bytes() == DATA


def test_a_file_that_was_mended_meanwhile_is_not_moved_aside(store: Store) -> None:
    path = store.blob_path(store.put_bytes(DATA).sha256)
    bad = path.stat()
    store.put_bytes(DATA)
    assert move_aside(store.quarantine, path, bad) is None
    assert path.read_bytes() == DATA
    assert move_aside(store.quarantine, path, path.stat()) is not None
    assert not path.exists()


def test_verify_tells_how_far_it_is(store: Store) -> None:
    build(store, "a", b"1" * 10)
    build(store, "b", b"2" * 30)
    steps: list[tuple[int, int]] = []
    store.verify(progress=lambda done, whole: steps.append((done, whole)))
    assert len(steps) == 2
    assert steps[-1] == (40, 40)


# A damaged record


def spell(fields: dict[str, Any]) -> bytes:
    body = json.dumps(fields).encode()[1:]
    return b'{"sha256":"' + sha256_bytes(body).encode() + b'",\n' + body


def respell(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda data: spell({**json.loads(b"{" + data.split(b"\n", 1)[1]), **changes})


BAD_RECORDS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "not JSON": lambda data: data[: len(data) // 2],
    "zeros after a power cut": lambda data: b"\0" * len(data),
    "one bit": lambda data: data[:100] + bytes([data[100] ^ 4]) + data[101:],
    "unknown version": respell(version=2),
    "extra field": respell(extra=1),
    "other key": respell(key="0" * 64),
    "upper-case digest": respell(outputs={"a": {"sha256": "AB" * 32, "bytes": 1}}),
    "short digest": respell(outputs={"a": {"sha256": "ab" * 31, "bytes": 1}}),
    "climbing name": respell(outputs={"../a": {"sha256": "ab" * 32, "bytes": 1}}),
    "absolute name": respell(outputs={"/a": {"sha256": "ab" * 32, "bytes": 1}}),
    "climbing digest": respell(outputs={"a": {"sha256": "../../../" + "a" * 55, "bytes": 1}}),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_bad_record_is_a_miss_and_moved_aside(store: Store, warned: Warned, name: str) -> None:
    record = build(store)
    path = store.record_path(record.key)
    replace(path, BAD_RECORDS[name](path.read_bytes()))
    (problem,) = [one for one in store.verify() if one.kind is ProblemKind.DAMAGED_RECORD]
    assert problem.path == path
    assert store.hit(record.key) is store.record(record.key) is store.latest("s") is None
    assert len(warned) == 1
    assert str(path) in warned[0]
    assert [one.name.split(".")[0] for one in store.quarantine.iterdir()] == [record.key]
    assert build(store) == record == store.hit(record.key) == store.latest("s")
    assert store.verify() == []


@pytest.mark.parametrize("damage", [make_folder, link_outside, link_nowhere, make_pipe])
def test_something_else_in_place_of_a_record(store: Store, damage: Callable[[Path], None]) -> None:
    record = build(store)
    damage(store.record_path(record.key))
    assert store.record(record.key) is None
    assert build(store) == record == store.hit(record.key)
    assert store.verify() == []


def test_a_record_whose_file_is_missing_is_no_hit(store: Store) -> None:
    record = build(store)
    store.blob_path(only_blob(record).sha256).unlink()
    assert store.hit(record.key) is None
    assert [one.kind for one in store.verify()] == [ProblemKind.MISSING_FILE]


def test_a_huge_record_is_not_read(store: Store) -> None:
    record = build(store)
    path = store.record_path(record.key)
    path.chmod(0o644)
    os.truncate(path, 1 << 40)
    assert store.record(record.key) is None


def test_no_record_writes_outside(store: Store, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if store.root not in path.parents}
    for name, change in BAD_RECORDS.items():
        record = build(store, name)
        path = store.record_path(record.key)
        replace(path, change(path.read_bytes()))
        store.record(record.key)
        store.verify(repair=True)
        store.gc([])
    after = {path for path in tmp_path.rglob("*") if store.root not in path.parents}
    assert after - {store.root} == before


# The system says no


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


# Real small and read-only filesystems


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
