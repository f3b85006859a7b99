"""Collection: what is wanted stays, the rest goes, and no builder loses a file."""

import os
import signal
import time

import pytest

from modelkiln.errors import StoreError
from modelkiln.store.store import Store
from modelkiln.util import atomic
from modelkiln.util.flock import Held
from tests.modelkiln.store.making import build, in_child, make_record, wait


def test_only_the_temporary_files_of_the_dead_are_reaped(store: Store) -> None:
    build(store, "s", b"1")
    out = store.root / "out" / "target"
    out.mkdir(parents=True)
    places = [store.cas, store.records, store.records / "latest", out]
    dead = [folder / f"{atomic.TEMP_PREFIX}1-dead" for folder in places]
    for path in dead:
        path.write_text("half")
        os.utime(path, (2**33, 2**33))
    with atomic.temporary(store.cas) as (_, alive):
        assert sorted(Store(store.root).reap()) == sorted(dead)
        assert alive.exists()
    assert not alive.exists()


def test_what_is_wanted_stays_and_the_rest_goes(store: Store) -> None:
    shared = store.put_bytes(b"shared")
    kept = store.publish(make_record("kept", {"a": shared, "b": store.put_bytes(b"kept")}))
    gone = store.publish(make_record("gone", {"a": shared, "b": store.put_bytes(b"gone!")}))
    store.put_bytes(b"nobody's")
    before = sorted(store.root.rglob("*"))
    planned = store.gc([kept.key], dry_run=True)
    assert planned.dry_run
    assert [path for path in before if not path.exists()] == []
    done = store.gc([kept.key])
    assert done.records == planned.records == ("gone",)
    assert done.files == planned.files == 2
    assert done.bytes_freed == planned.bytes_freed >= len(b"gone!" + b"nobody's")
    assert done.bytes_kept == len(b"shared" + b"kept")
    assert store.hit(kept.key) == kept
    assert store.record(gone.key) is store.latest("gone") is None
    assert store.latest("kept") == kept
    assert store.verify() == []
    assert len(list(store.cas.glob("??/*"))) == 2


def test_the_young_stay_and_a_wrong_clock_costs_nothing(store: Store) -> None:
    records = [build(store, name, name.encode()) for name in ("old", "new", "future")]
    now = time.time()
    for record, age in zip(records, (40 * 86400, 0, -(10**8)), strict=True):
        path = store.record_path(record.key)
        path.chmod(0o644)
        os.utime(path, (now - age, now - age))
    assert store.gc([], keep_days=30).records == ("old",)
    assert [store.hit(record.key) is not None for record in records] == [False, True, True]


def test_leftovers_go(store: Store) -> None:
    record = build(store, "s", b"1")
    path = store.blob_path(record.outputs["out.bin"].sha256)
    path.unlink()
    path.mkdir()
    (path / "inner").write_text("12345")
    quiet = Store(store.root, warn=lambda _message: None)
    with pytest.raises(StoreError):
        quiet.check(record.outputs["out.bin"])
    with quiet.step_lock(record.key):
        pass
    assert quiet.gc([record.key], dry_run=True).leftovers == 1
    report = quiet.gc([record.key])
    assert (report.leftovers, report.bytes_freed) == (1, 5)
    assert list(store.quarantine.iterdir()) == []
    assert sorted(lock.name for lock in store.locks.glob("*.lock")) == ["store.lock"]


def test_a_stranger_in_the_store_is_named_and_left_alone(store: Store) -> None:
    build(store, "s", b"1")
    strangers = [store.cas / "README", store.cas / "ab" / "note.txt", store.records / "x.json"]
    for path in strangers:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    store.gc([])
    assert {problem.path for problem in store.verify()} == set(strangers)


def test_a_collection_waits_for_no_builder(store: Store) -> None:
    ready, tell = os.pipe()

    def work() -> None:
        with store.in_use():
            store.put_bytes(b"just made, not yet recorded")
            os.write(tell, b"x")
            signal.pause()

    pid = in_child(work)
    os.read(ready, 1)
    with pytest.raises(Held, match="in use") as caught:
        store.gc([])
    assert f"process {pid} on {os.uname().nodename} since" in caught.value.why
    assert caught.value.exit_code == 8
    assert len(list(store.cas.glob("??/*"))) == 1
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    assert store.gc([]).files == 1


def test_builders_and_collections_at_once(store: Store) -> None:
    def work() -> None:
        for number in range(15):
            with store.in_use():
                record = build(store, f"s{os.getpid()}", b"%d" % number, salt=number)
                assert store.hit(record.key) == record
                store.check(record.outputs["out.bin"])

    pids = [in_child(work), in_child(work)]
    collected = 0
    alive = set(pids)
    while alive:
        try:
            collected += store.gc([]).files
        except Held:
            time.sleep(0.001)
        for pid in list(alive):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                alive.discard(pid)
    assert [wait(pid) for pid in pids] == [0, 0]
    assert store.verify() == []
