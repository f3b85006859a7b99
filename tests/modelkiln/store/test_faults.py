"""Damage: noticed at use, named, never served, never a crash.

The store, its records, its audit and its quarantine have to agree on it, so it has a file of
its own."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelkiln.store.audit import ProblemKind
from modelkiln.store.store import DamagedBlob, Store
from modelkiln.util.hashing import sha256_bytes
from tests.modelkiln.store.damaging import (
    DAMAGES,
    DATA,
    Warned,
    build,
    flip,
    link_nowhere,
    link_outside,
    make_folder,
    make_pipe,
    only_blob,
    replace,
    temporary_files,
)


@pytest.fixture
def store(tmp_path: Path, warned: Warned) -> Store:
    return Store(tmp_path / "artifacts", warn=warned.append)


# A file


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


# A record


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
