"""Scratch folders: private, leased to a process, and gone when it is."""

import os
import signal
import time

from modelkiln.store.store import Store
from tests.modelkiln.store.making import in_child, wait


def test_scratch_is_private_and_goes(store: Store) -> None:
    first, second = store.scratch("tiny/export: ../x"), store.scratch("tiny/export: ../x")
    assert first != second
    assert first.parent == second.parent == store.root / "scratch"
    assert first.stat().st_mode & 0o777 == 0o700
    assert store.reap() == []
    (first / "inputs").mkdir()
    (first / "inputs" / "file").write_text("x")
    (first / "inputs").chmod(0o500)
    store.discard(first)
    assert not first.exists()
    assert second.is_dir()


def test_only_the_scratch_of_the_dead_is_reaped(store: Store) -> None:
    ready, tell = os.pipe()

    def work() -> None:
        folder = store.scratch("dead")
        (folder / "file").write_text("x")
        os.write(tell, b"x")
        signal.pause()

    mine = store.scratch("mine")
    pid = in_child(work)
    os.read(ready, 1)
    other = Store(store.root)
    assert other.reap() == []
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    assert [path.name[:4] for path in other.reap(dry_run=True)] == ["dead"]
    assert [path.name[:4] for path in other.reap()] == ["dead"]
    assert [path for path in mine.parent.iterdir() if path.is_dir()] == [mine]
    assert sorted(path.name for path in mine.parent.iterdir()) == [mine.name, f"{mine.name}.lease"]


def test_scratch_without_a_lease_is_dead(store: Store) -> None:
    mine = store.scratch("mine")
    stray = mine.with_name("stray")
    (stray / "inner").mkdir(parents=True)
    mine.with_name("alone.lease").write_text("")
    mine.with_name("file").write_text("")
    outside = store.root.parent / "outside"
    outside.mkdir()
    mine.with_name("link").symlink_to(outside)
    assert {path.name for path in store.reap()} == {"stray", "file", "link"}
    assert {path.name for path in mine.parent.iterdir()} == {mine.name, f"{mine.name}.lease"}
    assert outside.is_dir()


def test_a_stage_that_outlives_its_builder_keeps_its_scratch(store: Store) -> None:
    import subprocess

    name, tell = os.pipe()

    def work() -> None:
        folder = store.scratch("orphan")
        child = subprocess.Popen(["sleep", "30"], pass_fds=[store.lease(folder)])
        os.write(tell, f"{child.pid}".encode())

    assert wait(in_child(work)) == 0
    child = int(os.read(name, 20))
    assert store.reap() == []
    os.kill(child, signal.SIGKILL)
    end = time.monotonic() + 5
    while not (reaped := store.reap()) and time.monotonic() < end:
        time.sleep(0.01)
    assert [path.name[:6] for path in reaped] == ["orphan"]
