"""Private folders for running steps, each leased to its process by a locked file beside it."""

import contextlib
import os
import re
import shutil
from pathlib import Path

from modelkiln.util.atomic import disk_errors
from modelkiln.util.flock import try_lock

_LEASE = ".lease"


class Scratch:
    """The scratch folders of one store, and the leases that this process holds."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._leases: dict[Path, int] = {}

    def make(self, name: str) -> Path:
        """Make a new folder whose name begins with the harmless characters of `name`, mode 0700.

        Raises:
            StoreError, OutOfSpace: It cannot be made.
        """
        stem = re.sub(r"[^A-Za-z0-9_+@-]+", "-", name).strip("-")[:80] or "step"
        with disk_errors("making a scratch folder", self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            while True:
                folder = self.root / f"{stem}-{os.urandom(6).hex()}"
                # Leased before it is made, so a folder without a lease is always dead. None: a
                # reaper looked at the lease before it was locked; the next name is another chance.
                lease = try_lock(_lease_of(folder))
                if lease is not None:
                    self._leases[folder] = lease
                    try:
                        folder.mkdir(mode=0o700)
                    except OSError:
                        self.discard(folder)
                        raise
                    return folder

    def lease(self, folder: Path) -> int:
        """Return the descriptor that keeps a folder; a child that inherits it keeps it too."""
        return self._leases[folder]

    def discard(self, folder: Path) -> None:
        """Give up a folder made here and remove it; what cannot be removed is left to `reap`."""
        lease = self._leases.pop(folder)
        with contextlib.suppress(OSError):
            _remove(folder)
        os.close(lease)

    def reap(self, dry_run: bool = False) -> list[Path]:
        """Remove the folders that no living process leases; return their names."""
        reaped = []
        for path in sorted(self.root.iterdir()) if self.root.is_dir() else []:
            # One that is gone or cannot be removed is the next reaper's.
            with contextlib.suppress(OSError):
                if path.suffix != _LEASE:
                    if _reap(path, dry_run):
                        reaped.append(path)
                elif not path.with_suffix("").exists():
                    _reap(path.with_suffix(""), dry_run)
        return reaped


def _lease_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LEASE)


def _reap(folder: Path, dry_run: bool) -> bool:
    lease = try_lock(_lease_of(folder))
    if lease is None:
        return False
    try:
        if not dry_run:
            _remove(folder)
    finally:
        os.close(lease)
    return True


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        remove_tree(folder)
    _lease_of(folder).unlink()


def remove_tree(folder: Path) -> None:
    """Remove a folder with all it holds, read-only folders too; links are not followed.

    Raises:
        OSError: Something in it could not be removed.
    """
    folder.chmod(0o700)
    for parent, names, _ in os.walk(folder):
        for name in names:
            inner = Path(parent, name)
            if not inner.is_symlink():
                inner.chmod(0o700)
    shutil.rmtree(folder)
