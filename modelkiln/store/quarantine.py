"""What the store found damaged is moved aside, never deleted and never used."""

import contextlib
import os
from pathlib import Path


def move_aside(folder: Path, path: Path, seen: os.stat_result | None = None) -> Path | None:
    """Move whatever stands at `path` into the quarantine folder and return its new name.

    Args:
        folder: The quarantine.
        path: A file, a folder or a link (the link itself moves).
        seen: What was found bad; where something else stands there by now, it stays.

    Returns:
        None where it is gone, was replaced, or cannot be moved (a read-only store).
    """
    with contextlib.suppress(OSError):
        if seen is not None and not os.path.samestat(seen, path.lstat()):
            return None
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f"{path.name}.{os.urandom(4).hex()}"
        path.rename(aside)
        return aside
    return None
