"""Files that are whole or absent.

Written beside their destination under a temporary name, synced, renamed, and the folder synced: a
reader, a kill or a power cut never meets half of one. A temporary file is locked while its writer
lives, so whatever can be locked under such a name is dead and may go.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from modelkiln.errors import KilnError, OutOfSpace, StoreError
from modelkiln.util.flock import try_lock
from modelkiln.util.hashing import CHUNK
from modelkiln.util.units import human_bytes

TEMP_PREFIX = ".modelkiln-"

_FULL = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP}
_FICLONE = 0x40049409


def explain(error: OSError, doing: str, folder: Path, need: int = 0) -> KilnError:
    """Return the error that a user sees for a failed write.

    Args:
        error: What the system said.
        doing: What was being written, as in 'storing encoder.onnx'.
        folder: Where.
        need: Bytes that the whole file takes, where known.
    """
    if error.errno in _FULL:
        have = _free_bytes(folder)
        sizes = f"need {human_bytes(need)}, have {human_bytes(have)} in {folder}"
        why = "A quota is used up." if error.errno == errno.EDQUOT else "The filesystem is full."
        return OutOfSpace(f"Disk full while {doing}: {sizes}.", why, "invoke store.gc")
    if error.errno in _READ_ONLY:
        return StoreError(
            f"{folder} cannot be written while {doing}: {error.strerror}.",
            "It is read-only, or belongs to another user.",
            "Make it writable, or set MODELKILN_ARTIFACTS to a folder of your own.",
        )
    if error.errno == errno.EXDEV:
        return StoreError(
            f"{folder} spans two filesystems: {doing} cannot be atomic.",
            "A folder inside the store is a mount point.",
            "Keep cas/ and records/ each on one filesystem.",
        )
    return StoreError(
        f"The disk reported an error while {doing}: {error.strerror}.",
        f"{folder} may be failing, or something else stands in its place.",
        "Look at the system's log, then run: invoke store.verify",
    )


@contextlib.contextmanager
def disk_errors(doing: str, folder: Path, need: int = 0) -> Iterator[None]:
    """Turn an OSError of the block into the KilnError of `explain`."""
    try:
        yield
    except OSError as error:
        raise explain(error, doing, folder, need) from error


def make_folder(folder: Path) -> None:
    """Make a folder with its parents, so that it is still there after a power cut."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def temporary(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield a new locked file in `folder`, open for reading and writing, and its name.

    The name is gone afterwards, unless `commit` gave the file its own.
    """
    descriptor, path = _make_temporary(folder)
    try:
        yield descriptor, path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _make_temporary(folder: Path) -> tuple[int, Path]:
    while True:
        path = folder / f"{TEMP_PREFIX}{os.getpid()}-{os.urandom(6).hex()}"
        # A reaper may lock the file before its writer does; the next name is another chance.
        with contextlib.suppress(FileExistsError):
            descriptor = try_lock(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            if descriptor is not None:
                return descriptor, path


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write the whole of `data`."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def copy_hashed(source: int, target: int) -> tuple[str, int]:
    """Copy what is behind one descriptor to another; return the SHA-256 and length written."""
    digest = hashlib.sha256()
    size = 0
    while block := os.read(source, CHUNK):
        digest.update(block)
        write_all(target, block)
        size += len(block)
    return digest.hexdigest(), size


def clone(source: int, target: int) -> bool:
    """Share a file's blocks with an empty one where the filesystem can; say whether it did."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def commit(descriptor: int, temp: Path, final: Path, mode: int, durable: bool = True) -> None:
    """Give a written temporary file its name and mode.

    Raises:
        OSError: It could not be synced or renamed; a name that is new does not exist then.
    """
    os.fchmod(descriptor, mode)
    if durable:
        os.fsync(descriptor)
    replaced = os.path.lexists(final)
    temp.replace(final)
    if durable:
        try:
            sync_folder(final.parent)
        except OSError:
            if not replaced:
                final.unlink()
            raise


def write_file(path: Path, data: bytes, mode: int = 0o644, durable: bool = True) -> None:
    """Write a whole file, or leave what stood there.

    Args:
        path: Where; missing folders are made.
        data: The content.
        mode: The file's mode, whatever the umask.
        durable: False leaves out the syncs: for what a power cut may take.

    Raises:
        OutOfSpace: The disk is full.
        StoreError: The folder cannot be written, or the disk reported an error.
    """
    with disk_errors(f"writing {path.name}", path.parent, len(data)):
        make_folder(path.parent)
        with temporary(path.parent) as (descriptor, temp):
            write_all(descriptor, data)
            commit(descriptor, temp, path, mode, durable)


def reap_temporary(folder: Path, dry_run: bool = False) -> list[Path]:
    """Remove the temporary files in one folder whose writers are dead; return their names."""
    reaped = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name.startswith(TEMP_PREFIX))
        for name in names:
            path = folder / name
            with contextlib.suppress(OSError):
                descriptor = try_lock(path, os.O_RDONLY)
                if descriptor is None:
                    continue
                try:
                    if not dry_run:
                        path.unlink()
                    reaped.append(path)
                finally:
                    os.close(descriptor)
    return reaped


def _free_bytes(folder: Path) -> int:
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            room = os.statvfs(place)
            return room.f_bavail * room.f_frsize
    return 0
