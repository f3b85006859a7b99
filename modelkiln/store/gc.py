"""Removing what is no longer wanted: records first, then the files that no record names."""

import contextlib
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelkiln.store.layout import read_record, walk_shards
from modelkiln.store.records import Record
from modelkiln.store.scratch import remove_tree
from modelkiln.util.atomic import disk_errors
from modelkiln.util.hashing import is_digest

if TYPE_CHECKING:
    from modelkiln.store.store import Store

_DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class GcReport:
    """What a collection removed, or would remove.

    Attributes:
        dry_run: True where nothing was touched.
        records: Step ids of the records removed, sorted.
        files: How many stored files.
        leftovers: How many quarantined things, dead scratch folders and temporary files.
        bytes_freed: Their sizes together.
        bytes_kept: What the store's files take afterwards.
    """

    dry_run: bool
    records: tuple[str, ...]
    files: int
    leftovers: int
    bytes_freed: int
    bytes_kept: int


def collect(store: "Store", keep: frozenset[str], keep_days: float, dry_run: bool) -> GcReport:
    """Remove from a store that nobody uses; see `Store.gc`.

    A kill at any point leaves a valid store: a record always goes before its files.
    """
    with disk_errors("removing what is not wanted", store.root):
        leftovers, freed = _sweep_leftovers(store, dry_run)
        kept, removed, bytes_removed = _sweep_records(store, keep, keep_days, dry_run)
        freed += bytes_removed
        if not dry_run:
            _sweep_pointers(store, kept)
        wanted = {blob.sha256 for record in kept for blob in record.outputs.values()}
        files, bytes_kept = 0, 0
        for path, found in walk_shards(store.cas):
            if path.name in wanted:
                bytes_kept += found.st_size
                continue
            if not is_digest(path.name):
                continue
            files += 1
            freed += _size(path, found)
            if not dry_run:
                _remove(path)
    return GcReport(
        dry_run=dry_run,
        records=tuple(sorted(removed)),
        files=files,
        leftovers=leftovers,
        bytes_freed=freed,
        bytes_kept=bytes_kept,
    )


def _sweep_records(
    store: "Store", keep: frozenset[str], keep_days: float, dry_run: bool
) -> tuple[list[Record], list[str], int]:
    # A record from the future is young: a clock that was wrong never costs a file.
    oldest = time.time() - keep_days * _DAY
    kept: list[Record] = []
    removed: list[str] = []
    freed = 0
    for path, found in walk_shards(store.records):
        key = path.name.removesuffix(".json")
        if not is_digest(key):
            continue
        step = path.name
        try:
            record = read_record(store, path, found)
        except (OSError, ValueError):
            pass
        else:
            step = record.step
            if key in keep or (keep_days > 0 and found.st_mtime >= oldest):
                kept.append(record)
                continue
        removed.append(step)
        freed += _size(path, found)
        if not dry_run:
            _remove(path)
    return kept, removed, freed


def _sweep_pointers(store: "Store", kept: list[Record]) -> None:
    keys = {record.key.encode("ascii") for record in kept}
    pointers = store.records / "latest"
    for pointer in sorted(pointers.iterdir()) if pointers.is_dir() else []:
        if pointer.read_bytes() not in keys:
            _remove(pointer)


def _sweep_leftovers(store: "Store", dry_run: bool) -> tuple[int, int]:
    quarantined = sorted(store.quarantine.iterdir()) if store.quarantine.is_dir() else []
    leftovers = quarantined + store.reap(dry_run=True)
    freed = sum(_size(path, path.lstat()) for path in leftovers)
    if not dry_run:
        for path in quarantined:
            _remove(path)
        store.reap()
        for lock in sorted(store.locks.glob("*.lock")):
            # Builders are away, so nobody waits on a step's lock.
            if lock.name != "store.lock":
                lock.unlink()
    return len(leftovers), freed


def _size(path: Path, found: os.stat_result) -> int:
    if not stat.S_ISDIR(found.st_mode):
        return found.st_size
    sizes = 0
    for parent, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                sizes += Path(parent, name).lstat().st_size
    return sizes


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
