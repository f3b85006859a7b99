"""Whether a build would do nothing, known from stat alone.

After a build that found everything in place, a note is kept of every file that its answer rests on:
the whole rooms that the plan is made from, and the records, stored files and published files of
its targets, each with length, both times and inode. While none of them has changed, the same
command has the same answer. It is the git index's way to tell unchanged files, applied to the whole
answer; the note can be lost at any time, and the next build then looks properly.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from modelkiln.paths import REPOSITORY, artifacts_root, catalog_folders
from modelkiln.util.hashing import sha256_json

ROOMS = ("modelkiln", "exporters", "catalog", "patches", "docker")
VARIABLES = (
    "MODELKILN_ARTIFACTS",
    "MODELKILN_CACHE",
    "MODELKILN_CATALOG",
    "MODELKILN_MIRROR",
    "MODELKILN_PINS",
    "XDG_CACHE_HOME",
    "HOME",
)
# A change in the same tick of a coarse clock leaves no trace, so files have to rest first.
REST_NS = 2_000_000_000
VERSION = 1


def ask(task: str, values: dict[str, Any]) -> str:
    """Return a digest of the command, its arguments and all else that is not a file."""
    return sha256_json(
        {
            "version": VERSION,
            "task": task,
            "values": values,
            "variables": {name: os.environ.get(name) for name in VARIABLES},
            "folder": str(Path.cwd()),
            "python": sys.version,
        }
    )


def recall(question: str) -> str | None:
    """Return what the command said last time, if nothing that it rests on has changed since."""
    try:
        note = json.loads(_note(question).read_bytes())
        if note["question"] != question or note["rooms"] != dict(_look(_walk_rooms())):
            return None
        files: dict[str, list[int]] = note["files"]
        if dict(_look(files)) != files:
            return None
        return str(note["says"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(question: str, says: str, files: Iterable[Path]) -> None:
    """Keep what a command that had nothing to do has said, and what that rests on."""
    from modelkiln.errors import KilnError
    from modelkiln.util.atomic import write_file

    seen = dict(_look(map(str, files)))
    rooms = dict(_look(_walk_rooms()))
    newest = max(max(one[1:3]) for one in (*seen.values(), *rooms.values()))
    if time.time_ns() - newest < REST_NS:
        return
    note = {"question": question, "says": says, "files": seen, "rooms": rooms}
    with contextlib.suppress(KilnError):
        write_file(_note(question), json.dumps(note).encode(), durable=False)


def _note(question: str) -> Path:
    return artifacts_root() / "cache" / "unchanged" / f"{question}.json"


def _walk_rooms() -> Iterator[str]:
    roots = [str(REPOSITORY / name) for name in ROOMS]
    roots += [str(folder) for folder in catalog_folders()[1:]]
    yield str(REPOSITORY / "tasks.py")
    if os.environ.get("MODELKILN_PINS"):
        from modelkiln.environments.base_images import pin_files

        for pins in pin_files()[1:]:
            # The link and what it leads to.
            yield from {str(pins), os.path.realpath(pins)}
    while roots:
        folder = roots.pop()
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    if entry.name != "__pycache__":
                        roots.append(entry.path)
                else:
                    yield entry.path


def _look(paths: Iterable[str]) -> Iterator[tuple[str, list[int]]]:
    for path in paths:
        found = os.lstat(path)
        yield path, [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
