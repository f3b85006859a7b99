"""kill -9 at every step of what the store does, and what is found afterwards.

A child process counts its own calls into the operating system and kills itself before the n-th,
or in the middle of it where it writes, for n = 1, 2, ... until it comes through. With strace the
same is done from outside, at the system calls themselves.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelkiln.store.records import dump_record
from modelkiln.store.store import Blob, Record, Store
from modelkiln.util import atomic
from modelkiln.util.hashing import sha256_bytes, sha256_json

REPOSITORY = Path(__file__).parents[3]
CALLS = (
    *("open", "close", "write", "pwrite", "fsync", "fchmod", "chmod", "ftruncate"),
    *("rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir"),
)
DATA = bytes(range(256)) * 20
SMALL_CHUNK = 2048


@dataclass(frozen=True, kw_only=True)
class Crash:
    """One child: what it called, the last call being the one it died at, and how it ended."""

    calls: tuple[str, ...]
    killed: bool


def run_and_kill(work: Callable[[], object], at: int, torn: bool = False) -> Crash:
    """Run work in a child that kills itself at its `at`-th call.

    Args:
        work: What to run.
        at: The first call is 1; the child dies before it is made.
        torn: Writes make half of themselves first.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            _count_calls(writer, at, torn)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        calls = tuple(pipe.read().decode().splitlines())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), f"the child failed after {calls[-3:]}"
    return Crash(calls=calls, killed=status != 0)


def _count_calls(writer: int, at: int, torn: bool) -> None:
    say, kill, write = os.write, os.kill, os.write
    count = 0

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            say(writer, f"{name} {_describe(args)}\n".encode())
            if count == at:
                if torn and name == "write":
                    write(args[0], args[1][: len(args[1]) // 2])
                kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, counted(name, getattr(os, name)))
    for name in ("flock", "ioctl"):
        setattr(fcntl, name, counted(name, getattr(fcntl, name)))


def _describe(args: tuple[Any, ...]) -> str:
    """The arguments as one line; a descriptor by the file it stands for."""
    words: list[str] = []
    for value in args:
        if isinstance(value, int) and not words:
            words.append(str(Path(f"/proc/self/fd/{value}").readlink()))
        elif isinstance(value, str | Path):
            words.append(str(value))
    return " ".join(words)


def make_record(step: str, blobs: dict[str, Blob]) -> Record:
    document = {"step": step}
    return Record(
        key=sha256_json(document),
        step=step,
        document=document,
        outputs=blobs,
        metrics={},
        provenance={},
    )


OLD = make_record("old", {"out.bin": Blob(sha256=sha256_bytes(b"old"), bytes=3)})
NEW = make_record("new", {"out.bin": Blob(sha256=sha256_bytes(DATA), bytes=len(DATA))})


def publish(root: Path, source: Path) -> None:
    """What a builder does when a step is done."""
    store = Store(root)
    with store.in_use(), store.step_lock(NEW.key):
        scratch = store.scratch("new")
        blob = store.put(source)
        store.publish(make_record("new", {"out.bin": blob}))
        store.materialize(blob, root / "out" / "target" / "out.bin")
        store.discard(scratch)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a kill loses nothing there that a disk would keep."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="modelkiln-crash-", dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(DATA)
    return path


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "CHUNK", SMALL_CHUNK)


def make_old(root: Path) -> None:
    store = Store(root)
    store.put_bytes(b"old")
    store.publish(OLD)


def refuse_warning(message: str) -> None:
    raise AssertionError(message)


def check_after(root: Path, old: bool) -> bool:
    """Assert everything the store promises after a kill; say whether the new record is there."""
    store = Store(root, warn=refuse_warning)
    assert store.verify() == []
    out = root / "out" / "target" / "out.bin"
    assert not out.exists() or out.read_bytes() == DATA
    record = store.record(NEW.key)
    if record is not None:
        assert record == NEW
        assert store.check(NEW.outputs["out.bin"]).read_bytes() == DATA
        latest = store.latest("new")
        assert latest is None or latest == NEW
    if old:
        assert store.hit(OLD.key) == OLD
        assert store.check(OLD.outputs["out.bin"]).read_bytes() == b"old"
    store.reap()
    names = [path.name for path in root.rglob("*")] if root.exists() else []
    assert [name for name in names if name.startswith(atomic.TEMP_PREFIX)] == []
    if (root / "scratch").is_dir():
        assert list((root / "scratch").iterdir()) == []
    assert not any((root / "locks" / "store.users").glob("*"))
    return record is not None


@pytest.mark.parametrize(("old", "torn"), [(False, False), (True, True)])
def test_kill_at_every_step_of_a_publish(
    tmp_path: Path, source: Path, old: bool, torn: bool
) -> None:
    found = []
    at = 0
    while True:
        at += 1
        root = tmp_path / f"store-{at}"
        if old:
            make_old(root)
        crash = run_and_kill(lambda root=root: publish(root, source), at, torn)  # type: ignore[misc]
        there = check_after(root, old)
        found.append(there)
        publish(root, source)
        assert check_after(root, old)
        shutil.rmtree(root)
        if not crash.killed:
            break
    kinds = {call.split()[0] for call in crash.calls}
    assert kinds >= {"open", "write", "fsync", "fchmod", "replace", "mkdir", "unlink", "flock"}
    assert sum(call.startswith("write ") for call in crash.calls) >= 2 * len(DATA) // SMALL_CHUNK
    assert at == len(crash.calls) + 1 > 60
    # From some step on it is published, and before that it is not: nothing in between.
    assert found == sorted(found)
    assert set(found) == {False, True}


def test_the_order_that_a_power_cut_needs(tmp_path: Path, source: Path) -> None:
    """No name before its bytes are on the disk, no record before the names of its files are."""
    root = tmp_path / "store"
    calls = run_and_kill(lambda: publish(root, source), 0).calls
    blob = NEW.outputs["out.bin"].sha256
    shard = root / "cas" / blob[:2]
    record = Store(root).record_path(NEW.key)

    def place(start: str, end: str = "", after: int = 0) -> int:
        for number, call in enumerate(calls[after:], after):
            if call.startswith(start) and call.endswith(end):
                return number
        raise AssertionError(f"no {start!r} ... {end!r} after call {after}")

    temp = f"{root}/cas/{atomic.TEMP_PREFIX}"
    written = max(n for n, call in enumerate(calls) if call.startswith(f"write {temp}"))
    synced = place(f"fsync {temp}", after=written)
    named = place(f"replace {temp}", str(shard / blob), after=synced)
    settled = place(f"fsync {shard}", after=named)
    temp = f"{root}/records/{atomic.TEMP_PREFIX}"
    recorded = place(f"replace {temp}", str(record), after=settled)
    assert place(f"write {temp}") < place(f"fsync {temp}") < recorded
    assert place(f"fsync {record.parent}", after=recorded)
    for folder in (root / "cas", shard, root / "records", record.parent):
        made = place("mkdir", str(folder))
        assert made < place(f"fsync {folder.parent}", after=made) < recorded


@pytest.mark.parametrize("where", ["file", "record", "both"])
def test_kill_while_damage_is_mended(tmp_path: Path, source: Path, where: str) -> None:
    """The store holds damaged bytes; a builder that replaces them is killed at every step."""
    at = 0
    while True:
        at += 1
        root = tmp_path / f"store-{at}"
        make_old(root)
        publish(root, source)
        if where != "record":
            path = Store(root).blob_path(NEW.outputs["out.bin"].sha256)
            path.unlink()
            path.mkdir()
        if where != "file":
            path = Store(root).record_path(NEW.key)
            path.chmod(0o644)
            path.write_bytes(dump_record(NEW)[:-7])
        quiet: list[str] = []

        def mend(root: Path = root, quiet: list[str] = quiet) -> None:
            store = Store(root, warn=quiet.append)
            if store.hit(NEW.key) is None:
                store.put(source)
                store.publish(NEW)

        crash = run_and_kill(mend, at)
        mend()
        assert check_after(root, old=True)
        shutil.rmtree(root)
        if not crash.killed:
            break
    assert at > 20


def test_kill_at_every_step_of_a_collection(tmp_path: Path, source: Path) -> None:
    at = 0
    gone = []
    while True:
        at += 1
        root = tmp_path / f"store-{at}"
        make_old(root)
        publish(root, source)
        store = Store(root)
        (store.quarantine / "folder").mkdir(parents=True)
        (store.quarantine / "folder" / "file").write_text("x")
        crash = run_and_kill(lambda root=root: Store(root).gc([OLD.key]), at)  # type: ignore[misc]
        gone.append(not check_after(root, old=True))
        store.gc([OLD.key])
        assert [path.name for path in store.cas.glob("??/*")] == [OLD.outputs["out.bin"].sha256]
        assert check_after(root, old=True) is False
        assert list(store.quarantine.iterdir()) == []
        shutil.rmtree(root)
        if not crash.killed:
            break
    assert at > 15
    assert gone == sorted(gone)
    assert set(gone) == {False, True}


def test_kill_at_every_step_of_a_reap(tmp_path: Path) -> None:
    at = 0
    while True:
        at += 1
        store = Store(tmp_path / f"store-{at}")
        dead = store.root / "scratch" / "dead"
        (dead / "inner").mkdir(parents=True)
        (dead / "inner" / "file").write_text("x")
        (dead / "inner").chmod(0o500)
        store.cas.mkdir()
        (store.cas / f"{atomic.TEMP_PREFIX}dead").write_text("x")
        crash = run_and_kill(lambda store=store: store.reap(), at)  # type: ignore[misc]
        store.reap()
        assert list(dead.parent.iterdir()) == list(store.cas.iterdir()) == []
        if not crash.killed:
            break
    assert at > 5


def test_the_counting_catches_a_store_that_writes_in_place(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is itself checked: a put without a temporary file must be found out."""

    def write_in_place(store: Store, path: Path) -> Blob:
        blob = NEW.outputs["out.bin"]
        final = store.blob_path(blob.sha256)
        final.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(final, os.O_WRONLY | os.O_CREAT)
        with path.open("rb") as source:
            while block := source.read(SMALL_CHUNK):
                os.write(descriptor, block)
        os.close(descriptor)
        return blob

    monkeypatch.setattr(Store, "put", write_in_place)
    caught = 0
    for at in range(1, 60):
        root = tmp_path / f"store-{at}"
        run_and_kill(lambda root=root: publish(root, source), at, torn=True)  # type: ignore[misc]
        try:
            check_after(root, old=False)
        except AssertionError:
            caught += 1
            if caught == 2:
                break
    assert caught >= 2


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = [{repository!r}]
from modelkiln.store.store import Record, Store
store = Store(Path({root!r}))
with store.in_use(), store.step_lock({key!r}):
    blob = store.put(Path({source!r}))
    store.publish(Record(key={key!r}, step="new", document={{"step": "new"}},
        outputs={{"out.bin": blob}}, metrics={{}}, provenance={{}}))
"""


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_kill_at_the_system_calls(tmp_path: Path, source: Path, call: str) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed; the loops above need none")
    for at in range(1, 20):
        root = tmp_path / f"store-{at}"
        text = CHILD.format(
            repository=str(REPOSITORY), root=str(root), key=NEW.key, source=str(source)
        )
        inject = ["-f", "-qq", "-e", f"inject={call}:signal=KILL:when={at}", "-o", "/dev/null"]
        child = subprocess.run(
            [strace, *inject, sys.executable, "-I", "-S", "-c", text], capture_output=True
        )
        if b"ptrace" in child.stderr:
            pytest.skip("strace may not trace here; the loops above need none")
        assert child.returncode in (0, -signal.SIGKILL), child.stderr.decode()
        check_after(root, old=False)
        publish(root, source)
        assert check_after(root, old=False)
        if child.returncode == 0:
            assert at >= 3, f"{call} was hardly called"
            return
    raise AssertionError("it never came through")
