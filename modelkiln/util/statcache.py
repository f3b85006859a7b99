"""Digests of files that have not changed since they were last read.

A file is known by its length, both its times and its inode. A digest is trusted only if the file
had rested when it was read: a change in the same tick of the clock would leave no trace.
"""

import contextlib
import json
import os
import time
from pathlib import Path

from modelkiln.errors import KilnError
from modelkiln.util.atomic import write_file
from modelkiln.util.hashing import is_digest, sha256_descriptor

_VERSION = 1
_TICK_NS = 20_000_000
_COARSE_TICK_NS = 2_000_000_000


class StatCache:
    """Digests by path, kept in one file; a missing, unreadable or foreign file is an empty cache.

    Args:
        path: The cache's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = _load(path)
        self._changed = False

    def digest(self, path: Path | str) -> str:
        """Return a file's SHA-256, read only if the file may have changed; links are followed.

        Raises:
            OSError: The file cannot be read.
        """
        name = os.path.abspath(path)  # noqa: PTH100 (a Path costs more than the stat)
        found = os.stat(name)  # noqa: PTH116
        entry = self._entries.get(name)
        if entry is not None and entry[:4] == _identity(found):
            return str(entry[4])
        return self._read(name)

    def known(self, path: Path | str) -> str | None:
        """Return a file's SHA-256 if it is known without reading the file, else None."""
        name = os.path.abspath(path)  # noqa: PTH100
        entry = self._entries.get(name)
        with contextlib.suppress(OSError):
            if entry is not None and entry[:4] == _identity(os.stat(name)):  # noqa: PTH116
                return str(entry[4])
        return None

    def save(self) -> None:
        """Write the cache if it changed; where it cannot be written it is only slower next time."""
        if not self._changed:
            return
        entries = {
            name: entry for name, entry in list(self._entries.items()) if Path(name).exists()
        }
        text = json.dumps({"version": _VERSION, "entries": entries}, separators=(",", ":"))
        with contextlib.suppress(KilnError):
            write_file(self._path, text.encode("ascii"), durable=False)
            self._changed = False

    def _read(self, name: str) -> str:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            before = os.fstat(descriptor)
            started = time.time_ns()
            digest, _ = sha256_descriptor(descriptor)
        finally:
            os.close(descriptor)
        # A change while it is read gives it other times than these, so it is read again.
        if _had_rested(before, started):
            self._entries[name] = [*_identity(before), digest]
            self._changed = True
        elif self._entries.pop(name, None) is not None:
            self._changed = True
        return digest


def _identity(found: os.stat_result) -> list[int | str]:
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _had_rested(found: os.stat_result, now: int) -> bool:
    # Whole seconds: a filesystem that keeps no finer times.
    coarse = found.st_mtime_ns % 1_000_000_000 == 0 and found.st_ctime_ns % 1_000_000_000 == 0
    tick = _COARSE_TICK_NS if coarse else _TICK_NS
    return max(found.st_mtime_ns, found.st_ctime_ns) + tick < now


def _load(path: Path) -> dict[str, list[int | str]]:
    try:
        content = json.loads(path.read_bytes())
        entries = content["entries"]
        if content["version"] == _VERSION and all(map(_is_entry, entries.values())):
            return dict(entries)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return {}


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 5
        and all(type(number) is int for number in entry[:4])
        and isinstance(entry[4], str)
        and is_digest(entry[4])
    )
