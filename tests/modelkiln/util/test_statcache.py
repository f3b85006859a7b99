"""The stat cache: fast where nothing changed, never wrong."""

import json
import os
import time
from pathlib import Path

import pytest

from modelkiln.util import statcache
from modelkiln.util.hashing import sha256_bytes, sha256_descriptor
from modelkiln.util.statcache import StatCache


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time a file's content was read."""
    calls: list[int] = []
    real = sha256_descriptor

    def count(descriptor: int) -> tuple[str, int]:
        calls.append(descriptor)
        return real(descriptor)

    monkeypatch.setattr(statcache, "sha256_descriptor", count)
    return calls


def at(monkeypatch: pytest.MonkeyPatch, path: Path, after_ns: int) -> None:
    """Let the clock stand so many nanoseconds after a file's last change."""
    now = path.stat().st_ctime_ns + after_ns
    monkeypatch.setattr(time, "time_ns", lambda: now)


@pytest.fixture
def rested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    os.utime(path, ns=(0, path.stat().st_mtime_ns - 123_456_789))
    at(monkeypatch, path, 5_000_000_000)
    return path


def test_an_unchanged_file_is_read_once(rested: Path, reads: list[int]) -> None:
    cache = StatCache(rested.parent / "cache")
    assert cache.known(rested) is None
    for _ in range(3):
        assert cache.digest(rested) == sha256_bytes(b"one")
    assert cache.known(rested) == sha256_bytes(b"one")
    assert len(reads) == 1


def test_it_is_kept(rested: Path, reads: list[int]) -> None:
    where = rested.parent / "deep" / "cache"
    first = StatCache(where)
    first.digest(rested)
    first.save()
    assert StatCache(where).digest(str(rested)) == sha256_bytes(b"one")
    assert len(reads) == 1


def test_an_edit_of_the_same_length_with_its_old_mtime_is_seen(rested: Path) -> None:
    cache = StatCache(rested.parent / "cache")
    cache.digest(rested)
    before = rested.stat()
    time.sleep(0.02)
    rested.write_bytes(b"two")
    os.utime(rested, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert rested.stat().st_mtime_ns == before.st_mtime_ns
    assert cache.digest(rested) == sha256_bytes(b"two")


def test_a_touch_reads_again_and_gives_the_same(rested: Path, reads: list[int]) -> None:
    cache = StatCache(rested.parent / "cache")
    digest = cache.digest(rested)
    os.utime(rested, ns=(1, 1))
    assert cache.digest(rested) == digest
    assert len(reads) == 2


def test_a_replaced_file_is_seen(rested: Path) -> None:
    cache = StatCache(rested.parent / "cache")
    cache.digest(rested)
    other = rested.with_name("other")
    other.write_bytes(b"new")
    other.replace(rested)
    assert cache.digest(rested) == sha256_bytes(b"new")


@pytest.mark.parametrize("after_ns", [0, 4_000_000, -3_600_000_000_000])
def test_a_file_changed_in_this_tick_or_in_the_future_is_not_trusted(
    rested: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch, after_ns: int
) -> None:
    at(monkeypatch, rested, after_ns)
    cache = StatCache(rested.parent / "cache")
    assert cache.digest(rested) == cache.digest(rested) == sha256_bytes(b"one")
    assert len(reads) == 2
    assert cache.known(rested) is None


def test_whole_seconds_need_a_longer_rest() -> None:
    class Coarse:
        st_mtime_ns = st_ctime_ns = 5_000_000_000

    assert not statcache._had_rested(Coarse(), 6_000_000_000)  # type: ignore[arg-type]
    assert statcache._had_rested(Coarse(), 8_000_000_000)  # type: ignore[arg-type]


def test_a_file_that_changes_while_it_is_read_is_read_again(
    rested: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sha256_descriptor

    def edit(descriptor: int) -> tuple[str, int]:
        found = real(descriptor)
        rested.write_bytes(b"longer")
        return found

    cache = StatCache(rested.parent / "cache")
    monkeypatch.setattr(statcache, "sha256_descriptor", edit)
    cache.digest(rested)
    monkeypatch.setattr(statcache, "sha256_descriptor", real)
    assert cache.digest(rested) == sha256_bytes(b"longer")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"version":2,"entries":{}}',
        b'{"version":1,"entries":{"/x":[1,2,3,4]}}',
        b'{"version":1,"entries":{"/x":[1,2,3,4,"short"]}}',
        b'{"version":1,"entries":[]}',
        b"\xff\xfe\x00",
        b"[" * 100000,
    ],
)
def test_a_corrupt_cache_is_an_empty_one(rested: Path, content: bytes) -> None:
    where = rested.parent / "cache"
    where.write_bytes(content)
    cache = StatCache(where)
    assert cache.known("/x") is None
    assert cache.digest(rested) == sha256_bytes(b"one")
    cache.save()
    assert StatCache(where).known(rested) == sha256_bytes(b"one")


def test_files_that_are_gone_are_forgotten(rested: Path) -> None:
    where = rested.parent / "cache"
    cache = StatCache(where)
    cache.digest(rested)
    rested.unlink()
    cache.save()
    assert json.loads(where.read_bytes())["entries"] == {}
    with pytest.raises(FileNotFoundError):
        cache.digest(rested)


def test_a_cache_that_cannot_be_written_is_only_slow(rested: Path) -> None:
    blocked = rested / "below a file" / "cache"
    cache = StatCache(blocked)
    assert cache.digest(rested) == sha256_bytes(b"one")
    cache.save()
    assert not blocked.exists()


def test_nothing_new_writes_nothing(rested: Path) -> None:
    where = rested.parent / "cache"
    cache = StatCache(where)
    cache.digest(rested)
    cache.save()
    inode = where.stat().st_ino
    again = StatCache(where)
    again.digest(rested)
    again.save()
    assert where.stat().st_ino == inode
