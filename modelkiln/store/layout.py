"""Where a store's files and records lie, and how they are listed."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from modelkiln.store.records import Record, parse_record
from modelkiln.util.atomic import TEMP_PREFIX

if TYPE_CHECKING:
    from modelkiln.store.store import Store


def walk_shards(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield what stands in the two-digit folders of cas/ or records/, and strangers beside them.

    Temporary files, and the folder records/latest, are passed over; so is what vanishes meanwhile.
    """
    for top in _entries(root):
        if top.name == "latest" or top.name.startswith(TEMP_PREFIX):
            continue
        is_shard = len(top.name) == 2 and top.is_dir(follow_symlinks=False)
        for entry in _entries(Path(top.path)) if is_shard else [top]:
            try:
                yield Path(entry.path), entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def read_record(store: "Store", path: Path, found: os.stat_result) -> Record:
    """Return the record at a path that `walk_shards` gave; nothing is moved.

    Raises:
        ValueError: It is not a record, or not in its place.
        OSError: It cannot be read.
    """
    key = path.name.removesuffix(".json")
    if path != store.record_path(key):
        raise ValueError("it is not where a record of its name belongs")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file")
    return parse_record(key, path.read_bytes())
