"""Locks: held by the living only, and a waiter learns by whom."""

import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from modelkiln.errors import Interrupted, StoreError
from modelkiln.util import flock
from modelkiln.util.flock import Held, Holder


def start_holder(make: Callable[[], AbstractContextManager[None]]) -> int:
    """Fork a child that enters a block and stays there; return its pid once it is inside."""
    inside, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with make():
                os.write(tell, b"x")
                signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    assert os.read(inside, 1) == b"x"
    os.close(inside)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_it_is_held_alone_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.lock"
    with flock.hold(path):
        holder = flock.read_holder(path)
        assert holder is not None
        assert (holder.pid, holder.host) == (os.getpid(), os.uname().nodename)
        with pytest.raises(Held) as caught, flock.hold(path, wait=False):
            pass
        assert str(os.getpid()) in str(caught.value)
        assert caught.value.exit_code == 8
    assert flock.read_holder(path) is None
    with flock.hold(path, wait=False):
        pass


def test_the_lock_of_a_killed_holder_is_free(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    pid = start_holder(lambda: flock.hold(path))
    with pytest.raises(Held) as caught, flock.hold(path, wait=False):
        pass
    assert caught.value.holders[0].pid == pid
    kill(pid)
    assert flock.read_holder(path) is not None, "the text of the dead holder is still there"
    with flock.hold(path, wait=False):
        pass


def test_a_waiter_gets_the_lock_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    pid = start_holder(lambda: flock.hold(path))
    told: list[Holder] = []

    def on_wait(holder: Holder) -> None:
        told.append(holder)
        kill(pid)

    with flock.hold(path, on_wait=on_wait):
        pass
    assert [holder.pid for holder in told] == [pid]
    assert "since 20" in str(told[0])


@pytest.mark.parametrize("pid", [os.getpid(), 1, 2**22 + 1], ids=["own", "first", "none"])
def test_a_process_id_in_a_lock_file_means_nothing(tmp_path: Path, pid: int) -> None:
    path = tmp_path / "a.lock"
    path.write_text(json.dumps({"pid": pid, "host": os.uname().nodename, "since": "2000"}))
    with flock.hold(path, wait=False):
        pass


@pytest.mark.parametrize("text", ["", "{", "null", '{"pid": "x"}', "\0" * 50])
def test_a_damaged_lock_file_is_still_a_lock(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.lock"
    path.write_text(text)
    assert flock.read_holder(path) is None
    with flock.hold(path, wait=False):
        assert flock.read_holder(path) is not None


def test_two_threads_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(20):
            with flock.hold(path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 60
    assert max(most) == 1


def test_a_waiter_can_be_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with (
        flock.hold(path),
        pytest.raises(Interrupted, match=str(os.getpid())),
        flock.hold(path, cancelled=lambda: True),
    ):
        pass


def test_a_lock_file_that_is_removed_while_waiting_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with flock.hold(path):
        path.unlink()
        with flock.hold(path, wait=False):
            assert path.exists()


def test_a_lock_file_that_is_replaced_before_it_is_locked_is_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.lock"
    real = fcntl.flock
    swapped: list[int] = []

    def swap(descriptor: int, operation: int) -> None:
        if not swapped:
            swapped.append(path.stat().st_ino)
            path.rename(path.with_name("old"))
            path.write_text("")
        real(descriptor, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", swap)
        descriptor = flock.try_lock(path)
    assert descriptor is not None
    assert os.fstat(descriptor).st_ino == path.stat().st_ino != swapped[0]
    assert flock.try_lock(path) is None
    os.close(descriptor)


def test_sharers_are_many_and_keep_one_alone_out(tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    first = start_holder(lambda: flock.share(path))
    second = start_holder(lambda: flock.share(path))
    with pytest.raises(Held, match="In use") as caught, flock.exclude(path, "In use."):
        pass
    assert {holder.pid for holder in caught.value.holders} == {first, second}
    kill(first)
    with pytest.raises(Held) as caught, flock.exclude(path, "In use."):
        pass
    assert {holder.pid for holder in caught.value.holders} == {second}
    assert len(flock.dead_tickets(path)) == 1
    kill(second)
    with flock.exclude(path, "In use."):
        pass


def test_a_sharer_waits_for_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    pid = start_holder(lambda: flock.exclude(path, ""))
    told: list[int] = []

    def on_wait(holder: Holder) -> None:
        told.append(holder.pid)
        kill(pid)

    with flock.share(path, on_wait=on_wait):
        pass
    assert told == [pid]


def test_a_ticket_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    with flock.share(path):
        assert len(list(path.with_suffix(".users").iterdir())) == 1
    assert list(path.with_suffix(".users").iterdir()) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("keep")
    path = tmp_path / "a.lock"
    path.symlink_to(target)
    with pytest.raises(StoreError, match="cannot be taken"), flock.hold(path):
        pass
    assert target.read_text() == "keep"


def test_a_child_program_does_not_keep_the_lock(tmp_path: Path) -> None:
    import subprocess

    path = tmp_path / "a.lock"
    with flock.hold(path):
        child = subprocess.Popen(["sleep", "30"])
    try:
        with flock.hold(path, wait=False):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_free_lock_costs_no_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_seconds: float) -> None:
        raise AssertionError("slept")

    monkeypatch.setattr(time, "sleep", refuse)
    with flock.hold(tmp_path / "a.lock"), flock.share(tmp_path / "b.lock"):
        pass
