"""Where a store's files and records lie, and how they are listed.

    cas/ab/abcd...      files, read-only
    records/ab/ab...json   what each key gave; records/latest/ leads from a step's id to its key
    scratch/ locks/ quarantine/

No name in it is absolute and no decision rests on a clock, a mode or a process id, so it can be
moved, copied and shared.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from modelkiln.store.records import Record, parse_record
from modelkiln.util.atomic import TEMP_PREFIX
from modelkiln.util.hashing import check_digest


class StoreLayout:
    """The places of a store in the folder `root`; nothing is read or made.

    Attributes:
        cas: Files by their SHA-256.
        records: Records by their key.
        pointers: By the hash of a step's id, the key of its last record.
        quarantine: What was found damaged.
        locks: Locks of steps, and `in_use_lock`, that of the whole store.
        scratches: Folders in which steps run.
        out: The readable tree of published targets.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.cas = self.root / "cas"
        self.records = self.root / "records"
        self.pointers = self.records / "latest"
        self.quarantine = self.root / "quarantine"
        self.locks = self.root / "locks"
        self.in_use_lock = self.locks / "store.lock"
        self.scratches = self.root / "scratch"
        self.out = self.root / "out"

    def blob_path(self, sha256: str) -> Path:
        """Return where a file is, or would be; nothing is checked but the digest's syntax."""
        check_digest(sha256)
        return self.cas / sha256[:2] / sha256

    def record_path(self, key: str) -> Path:
        """Return where a key's record is, or would be."""
        check_digest(key)
        return self.records / key[:2] / f"{key}.json"


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


def read_record(layout: StoreLayout, path: Path, found: os.stat_result) -> Record:
    """Return the record at a path that `walk_shards` gave; nothing is moved.

    Raises:
        ValueError: It is not a record, or not in its place.
        OSError: It cannot be read.
    """
    key = path.name.removesuffix(".json")
    if path != layout.record_path(key):
        raise ValueError("it is not where a record of its name belongs")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file")
    return parse_record(key, path.read_bytes())
