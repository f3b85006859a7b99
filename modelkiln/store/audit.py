"""Reading the whole store and naming what is wrong with it."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from modelkiln.store.layout import StoreLayout, read_record, walk_shards
from modelkiln.store.quarantine import move_aside
from modelkiln.store.records import Blob, Record
from modelkiln.util.hashing import is_digest, sha256_file


class ProblemKind(StrEnum):
    """What can be wrong with a store."""

    DAMAGED_FILE = "damaged file"
    MISSING_FILE = "missing file"
    DAMAGED_RECORD = "damaged record"
    UNKNOWN_FILE = "unknown file"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: What sort.
        path: Where.
        detail: What was found.
        steps: The steps whose results need it, sorted.
    """

    kind: ProblemKind
    path: Path
    detail: str
    steps: tuple[str, ...] = ()


def audit(
    layout: StoreLayout, progress: Callable[[int, int], None] | None, repair: bool
) -> list[Problem]:
    """Return the problems of a store, sorted by path; see `Store.verify`."""
    # Records are read before the files are listed: a file is always stored before its record.
    records, problems = _read_records(layout)
    users: dict[Blob, set[str]] = {}
    for record in records:
        for blob in record.outputs.values():
            users.setdefault(blob, set()).add(record.step)
    steps: dict[str, tuple[str, ...]] = {
        blob.sha256: tuple(sorted(names)) for blob, names in users.items()
    }
    files = list(walk_shards(layout.cas))
    whole = sum(found.st_size for _, found in files)
    done = 0
    for path, found in files:
        wrong = _inspect(path, found)
        if wrong is not None:
            kind, detail = wrong
            of = steps.get(path.name, ())
            problems.append(Problem(kind=kind, path=path, detail=detail, steps=of))
        done += found.st_size
        if progress is not None:
            progress(done, whole)
    lengths = {path.name: found.st_size for path, found in files}
    for blob in users:
        if blob.sha256 not in lengths:
            problems.append(
                Problem(
                    kind=ProblemKind.MISSING_FILE,
                    path=layout.blob_path(blob.sha256),
                    detail="a record names it, but it is not there",
                    steps=steps[blob.sha256],
                )
            )
    if repair:
        for problem in problems:
            if problem.kind is not ProblemKind.MISSING_FILE:
                move_aside(layout.quarantine, problem.path)
    return sorted(problems, key=lambda problem: problem.path)


def _read_records(layout: StoreLayout) -> tuple[list[Record], list[Problem]]:
    records = []
    problems = []
    for path, found in walk_shards(layout.records):
        try:
            records.append(read_record(layout, path, found))
        except (OSError, ValueError) as error:
            kind = ProblemKind.DAMAGED_RECORD
            problems.append(Problem(kind=kind, path=path, detail=str(error)))
    return records, problems


def _inspect(path: Path, found: os.stat_result) -> tuple[ProblemKind, str] | None:
    if not is_digest(path.name):
        return ProblemKind.UNKNOWN_FILE, "the store does not make such a name"
    if path.parent.name != path.name[:2]:
        return ProblemKind.UNKNOWN_FILE, "it is in the wrong folder"
    if not stat.S_ISREG(found.st_mode):
        return ProblemKind.DAMAGED_FILE, "it is not a regular file"
    try:
        digest = sha256_file(path)
    except OSError as error:
        return ProblemKind.DAMAGED_FILE, f"it cannot be read: {error.strerror}"
    if digest != path.name:
        return ProblemKind.DAMAGED_FILE, f"it holds the bytes of {digest}"
    return None
