"""The store at work: files in and out, records, two builders, other places and clocks."""

import errno
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from modelkiln.errors import StoreError
from modelkiln.store.audit import ProblemKind
from modelkiln.store.store import Blob, DifferentBytes, Record, Store
from modelkiln.util.hashing import CHUNK, sha256_bytes
from tests.modelkiln.store.making import build, in_child, make_record, refuse_warning, wait

# Files


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1])
def test_a_file_goes_in_and_comes_out(store: Store, tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    source = tmp_path / "source"
    source.write_bytes(data)
    blob = store.put(source)
    assert blob == Blob(sha256=sha256_bytes(data), bytes=size)
    assert store.has(blob)
    assert store.check(blob).read_bytes() == data
    store.materialize(blob, tmp_path / "deep" / "copy")
    assert (tmp_path / "deep" / "copy").read_bytes() == data
    assert store.put(source) == blob == store.put_bytes(data)
    assert store.verify() == []


def test_stored_and_copied_files_are_read_only_whatever_the_umask(
    store: Store, tmp_path: Path
) -> None:
    before = os.umask(0o077)
    try:
        blob = store.put_bytes(b"x")
        store.materialize(blob, tmp_path / "copy")
        store.materialize(blob, tmp_path / "script", mode=0o755)
    finally:
        os.umask(before)
    assert store.blob_path(blob.sha256).stat().st_mode & 0o7777 == 0o444
    assert (tmp_path / "copy").stat().st_mode & 0o7777 == 0o444
    assert (tmp_path / "script").stat().st_mode & 0o7777 == 0o755


def test_a_copy_is_not_the_stored_file(store: Store, tmp_path: Path) -> None:
    blob = store.put_bytes(b"one")
    copy = tmp_path / "copy"
    store.materialize(blob, copy, mode=0o644)
    copy.write_bytes(b"two")
    store.check(blob)


def test_a_copy_replaces_what_stood_there(store: Store, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("keep")
    link = tmp_path / "out"
    link.symlink_to(victim)
    store.materialize(store.put_bytes(b"new"), link)
    assert (link.read_bytes(), link.is_symlink()) == (b"new", False)
    assert victim.read_text() == "keep"


def test_links_folders_and_pipes_are_not_stored(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "."):
        with pytest.raises(StoreError, match="not a regular file"):
            store.put(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        store.put(tmp_path / "absent")


def test_a_file_from_another_filesystem(store: Store) -> None:
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == store.root.parent.stat().st_dev:
        pytest.skip("needs /dev/shm as another filesystem")
    source = shm / f"modelkiln-test-{os.getpid()}"
    try:
        source.write_bytes(b"far")
        store.check(store.put(source))
    finally:
        source.unlink()


def test_asking_makes_nothing(store: Store) -> None:
    key = "a" * 64
    assert store.record(key) is store.hit(key) is store.latest("step") is None
    assert not store.has(Blob(sha256=key, bytes=1))
    assert (store.reap(), store.verify()) == ([], [])
    assert not store.cas.exists()
    assert not store.records.exists()


# Records


def test_a_record_is_found_again(store: Store) -> None:
    record = build(store, "tiny/export", b"graph")
    again = Store(store.root, warn=refuse_warning)
    assert again.record(record.key) == record == again.hit(record.key)
    assert again.latest("tiny/export") == record
    assert again.latest("tiny/other") is None


def test_the_latest_is_the_one_published_last(store: Store) -> None:
    build(store, "s", b"1", salt=1)
    second = build(store, "s", b"2", salt=2)
    assert store.latest("s") == second
    store.record_path(second.key).unlink()
    assert store.latest("s") is None


@pytest.mark.parametrize("text", ["", "x", "../../etc/passwd", "\udcff", "a" * 64])
def test_a_damaged_pointer_is_no_record(store: Store, text: str) -> None:
    build(store, "s", b"1")
    (pointer,) = (store.records / "latest").iterdir()
    pointer.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert store.latest("s") is None


def test_equal_results_are_one_record(store: Store) -> None:
    first = build(store, "s", b"same")
    later = Record(**{**vars(first), "metrics": {"nodes": 4}, "provenance": {"runner": "docker"}})
    assert store.publish(later) == first
    assert store.record(first.key) == first


def test_other_bytes_for_one_key_are_refused(store: Store) -> None:
    first = build(store, "s", b"one")
    with pytest.raises(DifferentBytes) as caught:
        build(store, "s", b"three")
    assert caught.value.exit_code == 7
    text = str(caught.value)
    for data in (b"one", b"three"):
        assert sha256_bytes(data) in text
    assert "out.bin" in text
    assert "3 bytes" in text
    assert (caught.value.first, store.record(first.key)) == (first, first)
    assert store.verify() == []


def test_a_missing_or_extra_output_is_another_result(store: Store) -> None:
    blob = store.put_bytes(b"x")
    store.publish(make_record("s", {"a": blob}))
    for outputs in ({}, {"b": blob}, {"a": blob, "b": blob}):
        with pytest.raises(DifferentBytes):
            store.publish(make_record("s", outputs))


def test_other_bytes_after_the_first_were_lost_are_told_once(store: Store) -> None:
    first = build(store, "s", b"one")
    blob = first.outputs["out.bin"]
    store.blob_path(blob.sha256).unlink()
    assert store.record(first.key) == first
    assert store.hit(first.key) is None
    with pytest.raises(DifferentBytes, match="other bytes") as caught:
        build(store, "s", b"two")
    assert "lost" in caught.value.next
    assert build(store, "s", b"two") == store.hit(first.key)


def test_bytes_that_nobody_promised_may_differ(store: Store) -> None:
    kept, free = store.put_bytes(b"kept"), [store.put_bytes(one) for one in (b"1", b"2", b"3")]
    first = store.publish(make_record("s", {"a": kept, "free": free[0]}), {"free"})
    # The first stays as long as it is whole.
    assert store.publish(make_record("s", {"a": kept, "free": free[1]}), {"free"}) == first
    store.blob_path(free[0].sha256).unlink()
    assert store.hit(first.key) is None
    second = store.publish(make_record("s", {"a": kept, "free": free[2]}), {"free"})
    assert second.outputs["free"] == free[2]
    assert store.hit(first.key) == second
    for outputs in ({"a": kept}, {"a": free[0], "free": free[2]}):
        with pytest.raises((DifferentBytes, StoreError)):
            store.publish(make_record("s", outputs), {"free"})
    assert store.hit(first.key) == second


def test_a_lost_file_is_mended_by_building_again(store: Store) -> None:
    first = build(store, "s", b"one")
    store.blob_path(first.outputs["out.bin"].sha256).unlink()
    problems = store.verify()
    assert [(problem.kind, problem.steps) for problem in problems] == [
        (ProblemKind.MISSING_FILE, ("s",))
    ]
    assert build(store, "s", b"one") == first == store.hit(first.key)
    assert store.verify() == []


def test_nothing_is_recorded_without_its_files(store: Store) -> None:
    record = make_record("s", {"a": Blob(sha256="a" * 64, bytes=1)})
    with pytest.raises(StoreError, match="The output a of s is not in the store"):
        store.publish(record)
    assert store.record(record.key) is None


# Two builders


def test_two_builders_of_one_key_build_it_once(store: Store, tmp_path: Path) -> None:
    key = make_record("s", {}).key
    log = tmp_path / "log"

    def work() -> None:
        with store.in_use(), store.step_lock(key):
            if store.hit(key) is None:
                with log.open("a") as file:
                    file.write("built\n")
                time.sleep(0.05)
                build(store, "s", b"one")

    assert [wait(pid) for pid in [in_child(work) for _ in range(4)]] == [0, 0, 0, 0]
    assert log.read_text() == "built\n"
    assert store.verify() == []


def test_two_builders_without_a_lock_agree(store: Store) -> None:
    def work() -> None:
        for number in range(10):
            build(store, f"s{number}", bytes([number]) * 1000)

    assert [wait(pid) for pid in [in_child(work) for _ in range(3)]] == [0, 0, 0]
    assert (store.verify(), store.reap()) == ([], [])
    assert len(list(store.cas.glob("??/*"))) == 10


def test_of_two_different_results_at_once_one_wins(store: Store) -> None:
    pids = [in_child(lambda data=data: build(store, "s", data)) for data in (b"1", b"2", b"3")]  # type: ignore[misc]
    assert sorted(wait(pid) for pid in pids) == [0, 7, 7]
    assert store.hit(make_record("s", {}).key) is not None
    assert store.verify() == []


def test_the_lock_of_a_killed_builder_is_free(store: Store) -> None:
    key = make_record("s", {}).key
    ready, tell = os.pipe()

    def work() -> None:
        with store.step_lock(key):
            os.write(tell, b"x")
            signal.pause()

    pid = in_child(work)
    os.read(ready, 1)
    told: list[int] = []

    def on_wait(holder: object) -> None:
        told.append(holder.pid)  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGKILL)
        wait(pid)

    with store.step_lock(key, on_wait):
        pass
    assert told == [pid]


# Other places, other clocks


def test_a_moved_store_is_the_same_store(store: Store, tmp_path: Path) -> None:
    record = build(store, "s", b"1")
    for path in [*store.records.rglob("*"), *store.cas.rglob("*")]:
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes()
    moved = Store(tmp_path / "elsewhere" / "x", warn=refuse_warning)
    moved.root.parent.mkdir()
    store.root.rename(moved.root)
    assert moved.hit(record.key) == record == moved.latest("s")
    assert moved.verify() == []
    build(moved, "t", b"2")


def test_a_copied_store_needs_no_modes(store: Store, tmp_path: Path) -> None:
    record = build(store, "s", b"1")
    shutil.copytree(store.root, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = Store(tmp_path / "copy", warn=refuse_warning)
    assert copy.hit(record.key) == record
    copy.check(record.outputs["out.bin"])


def test_a_private_umask_makes_a_working_store(store: Store) -> None:
    before = os.umask(0o077)
    try:
        record = build(store, "s", b"1")
        with store.in_use(), store.step_lock(record.key):
            assert store.hit(record.key) == record
    finally:
        os.umask(before)
    assert store.root.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("shift", [-(10**9), 10**9])
def test_the_clock_does_not_count(
    store: Store, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    first = build(store, "s", b"1")
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + shift)
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 0)))
    assert build(store, "s", b"1") == first
    scratch = store.scratch("s")
    assert store.reap() == []
    store.discard(scratch)
    assert store.gc([first.key]).files == 0
    assert store.hit(first.key) == first


def test_names_fit_a_narrow_caseless_filesystem(store: Store) -> None:
    record = build(store, "s", b"1")
    store.scratch("Sam2.1_hiera_tiny+random0/" + "x" * 300)
    with store.in_use(), store.step_lock(record.key):
        names = [path.name for path in store.root.rglob("*")]
    assert max(map(len, names)) <= 143
    assert len({name.casefold() for name in names}) == len(set(names))


def test_a_dead_disk_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record = build(store, "s", b"1")

    def fail(_descriptor: int, _size: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    told: list[str] = []
    monkeypatch.setattr(os, "read", fail)
    assert Store(store.root, warn=told.append).record(record.key) is None
    assert "Input/output error" in told[0]
