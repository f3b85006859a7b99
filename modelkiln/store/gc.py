"""Removing what is no longer wanted: records first, then the files that no record names."""

import contextlib
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from modelkiln.store.layout import StoreLayout, read_record, walk_shards
from modelkiln.store.records import Record
from modelkiln.store.scratch import Scratch, remove_tree
from modelkiln.util.atomic import disk_errors, reap_temporary
from modelkiln.util.flock import dead_tickets
from modelkiln.util.hashing import is_digest

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


def collect(layout: StoreLayout, keep: frozenset[str], keep_days: float, dry_run: bool) -> GcReport:
    """Remove from a store that nobody uses; see `Store.gc`.

    A kill at any point leaves a valid store: a record always goes before its files.
    """
    with disk_errors("removing what is not wanted", layout.root):
        leftovers, freed = _sweep_leftovers(layout, dry_run)
        kept, removed, bytes_removed = _sweep_records(layout, keep, keep_days, dry_run)
        freed += bytes_removed
        if not dry_run:
            _sweep_pointers(layout, kept)
        wanted = {blob.sha256 for record in kept for blob in record.outputs.values()}
        files, bytes_kept = 0, 0
        for path, found in walk_shards(layout.cas):
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


def reap(layout: StoreLayout, dry_run: bool = False) -> list[Path]:
    """Remove what dead processes left, and return it: scratch folders, temporary files.

    Args:
        dry_run: Only return it.
    """
    reaped = Scratch(layout.scratches).reap(dry_run)
    for folder in (layout.cas, layout.records, layout.pointers):
        reaped += reap_temporary(folder, dry_run)
    for parent, _, _ in os.walk(layout.out):
        reaped += reap_temporary(Path(parent), dry_run)
    for ticket in dead_tickets(layout.in_use_lock):
        with contextlib.suppress(OSError):
            if not dry_run:
                ticket.unlink()
            reaped.append(ticket)
    return reaped


def _sweep_records(
    layout: StoreLayout, keep: frozenset[str], keep_days: float, dry_run: bool
) -> tuple[list[Record], list[str], int]:
    # A record from the future is young: a clock that was wrong never costs a file.
    oldest = time.time() - keep_days * _DAY
    kept: list[Record] = []
    removed: list[str] = []
    freed = 0
    for path, found in walk_shards(layout.records):
        key = path.name.removesuffix(".json")
        if not is_digest(key):
            continue
        step = path.name
        try:
            record = read_record(layout, path, found)
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


def _sweep_pointers(layout: StoreLayout, kept: list[Record]) -> None:
    keys = {record.key.encode("ascii") for record in kept}
    pointers = layout.pointers
    for pointer in sorted(pointers.iterdir()) if pointers.is_dir() else []:
        if pointer.read_bytes() not in keys:
            _remove(pointer)


def _sweep_leftovers(layout: StoreLayout, dry_run: bool) -> tuple[int, int]:
    quarantined = sorted(layout.quarantine.iterdir()) if layout.quarantine.is_dir() else []
    leftovers = quarantined + reap(layout, dry_run=True)
    freed = sum(_size(path, path.lstat()) for path in leftovers)
    if not dry_run:
        for path in quarantined:
            _remove(path)
        reap(layout)
        for lock in sorted(layout.locks.glob("*.lock")):
            # No build is running, so nobody waits on a step's lock.
            if lock != layout.in_use_lock:
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
