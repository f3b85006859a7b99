"""The store: files by their SHA-256 and a record for each step's key.

`StoreLayout` says where they lie.
"""

import contextlib
import os
import stat
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from modelkiln.errors import StoreError
from modelkiln.store import quarantine
from modelkiln.store.damage import DamagedBlob, DifferentBytes
from modelkiln.store.layout import StoreLayout
from modelkiln.store.records import BadRecord, Blob, Record, dump_record, parse_record
from modelkiln.store.scratch import Scratch
from modelkiln.util import atomic, flock
from modelkiln.util.flock import Holder, OnWait
from modelkiln.util.hashing import check_digest, sha256_bytes, sha256_descriptor

if TYPE_CHECKING:
    from modelkiln.store.audit import Problem
    from modelkiln.store.gc import GcReport

__all__ = ["Blob", "DamagedBlob", "DifferentBytes", "Holder", "Record", "Store"]

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_LARGEST_RECORD = 64 << 20


class Store(StoreLayout):
    """A store in the folder `root`, made at the first write.

    Args:
        root: The folder; a read-only one serves what it has and refuses writes.
        warn: Called with each warning, once; by default it is printed on stderr.
    """

    def __init__(self, root: Path, warn: Callable[[str], None] | None = None) -> None:
        super().__init__(root)
        self._scratch = Scratch(self.scratches)
        self._cas_name = str(self.cas)
        self._records_name = str(self.records)
        self._warn = warn or _print_warning
        self._warned: set[str] = set()
        self._warning = threading.Lock()

    # Files

    def put(self, path: Path) -> Blob:
        """Copy a file into the store and return its digest and length.

        Raises:
            StoreError: It is not a regular file (a link is not one), or the store cannot be
                written.
            OutOfSpace: The disk is full; nothing is left behind.
            OSError: The file cannot be read.
        """
        try:
            source = os.open(path, _READ)
        except OSError as error:
            if Path(path).is_symlink():
                raise _not_a_file(path) from error
            raise
        try:
            found = os.fstat(source)
            if not stat.S_ISREG(found.st_mode):
                raise _not_a_file(path)
            return self._put(source, path.name, found.st_size)
        finally:
            os.close(source)

    def put_bytes(self, data: bytes) -> Blob:
        """Store `data` as a file; errors as for `put`."""
        return self._put(data, "a document", len(data))

    def _put(self, source: int | bytes, name: str, size: int) -> Blob:
        with atomic.disk_errors(f"storing {name}", self.cas, size):
            atomic.make_folder(self.cas)
            with atomic.temporary(self.cas) as (target, temp):
                if isinstance(source, bytes):
                    atomic.write_all(target, source)
                    blob = Blob(sha256=sha256_bytes(source), bytes=size)
                else:
                    digest, size = atomic.copy_hashed(source, target)
                    blob = Blob(sha256=digest, bytes=size)
                final = self.blob_path(blob.sha256)
                atomic.make_folder(final.parent)
                if final.is_dir() and not final.is_symlink():
                    quarantine.move_aside(self.quarantine, final)
                # Renamed even where the name exists: what stands there may be damaged.
                atomic.commit(target, temp, final, 0o444)
        return blob

    def has(self, blob: Blob) -> bool:
        """Say whether a regular file of the right length is there; its content is not read."""
        try:
            found = os.lstat(f"{self._cas_name}/{blob.sha256[:2]}/{blob.sha256}")
        except OSError:
            return False
        return found.st_size == blob.bytes and stat.S_ISREG(found.st_mode)

    def check(self, blob: Blob) -> Path:
        """Read a whole file, compare it with its digest, and return where it is.

        Raises:
            DamagedBlob: It is missing or differs; it is in the quarantine now, with one warning.
        """
        with self._open(blob) as source:
            self._compare(blob, source, sha256_descriptor(source))
        return self.blob_path(blob.sha256)

    def materialize(self, blob: Blob, dest: Path, mode: int = 0o444, durable: bool = True) -> None:
        """Copy a file out of the store, checked as it is copied.

        Args:
            blob: Which one.
            dest: Its new name, given at the end; missing folders are made.
            mode: The copy's mode, whatever the umask.
            durable: False leaves out the syncs: for what a power cut may take.

        Raises:
            DamagedBlob: As for `check`; `dest` is as before.
            StoreError, OutOfSpace: It cannot be written.
        """
        doing = f"writing {dest.name}"
        with self._open(blob) as source, atomic.disk_errors(doing, dest.parent, blob.bytes):
            atomic.make_folder(dest.parent)
            with atomic.temporary(dest.parent) as (target, temp):
                if atomic.clone(source, target):
                    found = sha256_descriptor(target)
                else:
                    found = atomic.copy_hashed(source, target)
                self._compare(blob, source, found)
                atomic.commit(target, temp, dest, mode, durable)

    @contextlib.contextmanager
    def _open(self, blob: Blob) -> Iterator[int]:
        path = self.blob_path(blob.sha256)
        try:
            descriptor = os.open(path, _READ)
        except OSError as error:
            if not os.path.lexists(path):
                raise self._damaged(blob, "is missing", None) from error
            if path.is_symlink():
                raise self._damaged(blob, "is a link", path.lstat()) from error
            raise atomic.explain(error, "reading a stored file", path) from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise self._damaged(blob, "is not a regular file", found)
            if found.st_size != blob.bytes:
                reason = f"has {found.st_size} bytes instead of {blob.bytes}"
                raise self._damaged(blob, reason, found)
            yield descriptor
        finally:
            os.close(descriptor)

    def _compare(self, blob: Blob, source: int, found: tuple[str, int]) -> None:
        if found != (blob.sha256, blob.bytes):
            raise self._damaged(blob, f"holds the bytes of {found[0]}", os.fstat(source))

    def _damaged(self, blob: Blob, reason: str, seen: os.stat_result | None) -> DamagedBlob:
        path = self.blob_path(blob.sha256)
        aside = quarantine.move_aside(self.quarantine, path, seen) if seen else None
        error = DamagedBlob(blob, path, reason, aside)
        self._warn_once(error.what, about=blob.sha256)
        return error

    # Records

    def record(self, key: str) -> Record | None:
        """Return what a key gave, or None where it was never built.

        A record that is not exactly what this version writes goes to the quarantine, with one
        warning, and counts as absent. Whether its files are there is `has`'s to say.
        """
        path = f"{self._records_name}/{check_digest(key)[:2]}/{key}.json"
        try:
            descriptor = os.open(path, _READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._ignore_record(Path(path), str(error.strerror), None)
            return None
        found = os.fstat(descriptor)
        try:
            if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_RECORD:
                raise BadRecord("it is not a record's file")
            return parse_record(key, _read(descriptor, found.st_size))
        except BadRecord as error:
            self._ignore_record(Path(path), str(error), found)
        except OSError as error:
            self._ignore_record(Path(path), str(error.strerror), None)
        finally:
            os.close(descriptor)
        return None

    def _ignore_record(self, path: Path, reason: str, seen: os.stat_result | None) -> None:
        # What the disk or the rights keep from being read is not known to be bad; a link is.
        if seen is not None or path.is_symlink():
            quarantine.move_aside(self.quarantine, path, seen)
        self._warn_once(f"The record {path} is ignored: {reason}. Its step will run again.")

    def hit(self, key: str) -> Record | None:
        """Return what a key gave if all its files are there."""
        record = self.record(key)
        if record is not None and all(self.has(blob) for blob in record.outputs.values()):
            return record
        return None

    def publish(self, record: Record, unpromised: Collection[str] = ()) -> Record:
        """Make a step's result known; its files must be in the store.

        Args:
            record: What the step came to.
            unpromised: The names of outputs that may have other bytes each time. Where nothing else
                differs from the first result, that stays as long as its files are there.

        Returns:
            The record in use: this one, or the one that another builder published first.

        Raises:
            DifferentBytes: The key is known with other files; the first ones stay.
            StoreError: A file is missing, or the store cannot be written.
            OutOfSpace: The disk is full; nothing is left behind.
        """
        for name, blob in record.outputs.items():
            if not self.has(blob):
                raise StoreError(
                    f"The output {name} of {record.step} is not in the store.",
                    "It was removed between being stored and being published.",
                    "Build again; if it happens once more, run: invoke store.verify",
                )
        data = dump_record(record)
        final = self.record_path(record.key)
        doing = f"recording {record.step}"
        with atomic.disk_errors(doing, self.records, len(data)):
            atomic.make_folder(final.parent)
            with atomic.temporary(self.records) as (descriptor, temp):
                atomic.write_all(descriptor, data)
                # Synced first, so that the lock is held briefly.
                os.fsync(descriptor)
                with flock.hold(self.locks / "publish.lock"):
                    first = self.record(record.key)
                    if first is None:
                        atomic.commit(descriptor, temp, final, 0o444)
                        first = record
                    elif _promised(first, unpromised) != _promised(record, unpromised):
                        self._refuse(first, record, final)
                    elif not all(self.has(blob) for blob in first.outputs.values()):
                        atomic.commit(descriptor, temp, final, 0o444)
                        first = record
                    self._point(first)
        return first

    def _refuse(self, first: Record, second: Record, path: Path) -> None:
        lost = not all(self.has(blob) for blob in first.outputs.values())
        if lost:
            quarantine.move_aside(self.quarantine, path)
        raise DifferentBytes(first, second, self.blob_path, lost)

    def _pointer(self, step: str) -> Path:
        return self.pointers / sha256_bytes(step.encode("utf-8", "surrogatepass"))

    def _point(self, record: Record) -> None:
        # Only explanations read it, so a lost one costs nothing and needs no sync.
        data = record.key.encode("ascii")
        atomic.write_file(self._pointer(record.step), data, 0o644, durable=False)

    def latest(self, step: str) -> Record | None:
        """Return the record that was published last for a step's id, if it is still there."""
        try:
            key = self._pointer(step).read_text("ascii")
            record = self.record(key)
        except (OSError, ValueError):
            return None
        return record if record is not None and record.step == step else None

    # Locks and scratch

    def step_lock(
        self,
        key: str,
        on_wait: OnWait | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> AbstractContextManager[None]:
        """Hold a key for the length of a `with` block; errors as for `flock.hold`."""
        path = self.locks / f"{check_digest(key)}.lock"
        return flock.hold(path, on_wait=on_wait, cancelled=cancelled)

    def in_use(
        self,
        on_wait: OnWait | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> AbstractContextManager[None]:
        """Keep `gc` away for the length of a `with` block; waits while one runs."""
        return flock.share(self.in_use_lock, on_wait=on_wait, cancelled=cancelled)

    def scratch(self, name: str) -> Path:
        """Make a private folder that is kept while this process, or a heir of its lease, lives."""
        return self._scratch.make(name)

    def lease(self, folder: Path) -> int:
        """Return a scratch folder's lease, for a child's `pass_fds`."""
        return self._scratch.lease(folder)

    def discard(self, folder: Path) -> None:
        """Remove a scratch folder of this process; what cannot be removed is left to `reap`."""
        self._scratch.discard(folder)

    def reap(self, dry_run: bool = False) -> list[Path]:
        """Remove what dead processes left, and return it: scratch folders, temporary files.

        Args:
            dry_run: Only return it.
        """
        from modelkiln.store.gc import reap

        return reap(self, dry_run)

    # The whole

    def verify(
        self, progress: Callable[[int, int], None] | None = None, repair: bool = False
    ) -> "list[Problem]":
        """Read every file and record and return what is wrong, sorted by path.

        Args:
            progress: Called with the bytes read so far and in all.
            repair: Move what is damaged to the quarantine, so that the next build replaces it.
        """
        from modelkiln.store.audit import audit

        with self.in_use():
            return audit(self, progress, repair)

    def gc(
        self,
        keep: Collection[str] | Callable[[], Collection[str]],
        *,
        keep_days: float = 0.0,
        dry_run: bool = False,
    ) -> "GcReport":
        """Remove the records that are not wanted, and every file that no record names.

        Args:
            keep: Keys that are wanted, or what gives them once no builder is left.
            keep_days: Records published within this many days are kept too.
            dry_run: Only say what would go.

        Raises:
            flock.Held: Builders use the store; they are named.
        """
        from modelkiln.store.gc import collect

        what = f"The store {self.root} is in use, so nothing is removed."
        with flock.exclude(self.in_use_lock, what):
            keys = frozenset(keep() if callable(keep) else keep)
            return collect(self, keys, keep_days, dry_run)

    def _warn_once(self, message: str, about: str = "") -> None:
        # Two steps that meet a damaged file at once see it differently: damaged, and then gone.
        with self._warning:
            if (about or message) in self._warned:
                return
            self._warned.add(about or message)
        self._warn(message)


def _promised(record: Record, unpromised: Collection[str]) -> dict[str, Blob | None]:
    """Return the outputs of a record, of which those without a promise only have to be there."""
    return {n: None if n in unpromised else blob for n, blob in record.outputs.items()}


def _read(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size + 1)
    while len(data) <= size and (more := os.read(descriptor, size + 1)):
        data += more
    return data


def _not_a_file(path: Path) -> StoreError:
    return StoreError(
        f"{path} is not a regular file.",
        "Only plain files can be stored: no links, folders or devices.",
        "Name the file itself.",
    )


def _print_warning(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
