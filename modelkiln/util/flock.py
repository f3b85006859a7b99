"""Locks between processes.

A lock is held by an open descriptor (flock), so the kernel frees it however its holder ends. The
text inside a lock file only tells a waiter whom it waits for; nothing is ever decided from it, so
a process id that is in use again means nothing.
"""

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from modelkiln.errors import Interrupted, StoreError

_SHORTEST_WAIT = 0.002
_LONGEST_WAIT = 0.1
_CANNOT_MAKE = {
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.ENOSPC,
    errno.EDQUOT,
}


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lock: process id, host name, and since when (UTC, ISO 8601)."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


UNKNOWN = Holder(pid=0, host="an unknown host", since="an unknown time")

OnWait = Callable[[Holder], None]


class Held(StoreError):
    """A lock is held by others and was not to be waited for."""

    def __init__(self, what: str, holders: tuple[Holder, ...]) -> None:
        names = "; ".join(str(holder) for holder in holders) or "another process"
        super().__init__(what, f"It is held by {names}.", "Wait for it to end, then try again.")
        self.holders = holders


@contextlib.contextmanager
def hold(
    path: Path,
    *,
    on_wait: OnWait | None = None,
    cancelled: Callable[[], bool] | None = None,
    wait: bool = True,
) -> Iterator[None]:
    """Hold the lock named by a file, alone, for the length of a `with` block.

    Args:
        path: The lock file; made where absent, with its folder.
        on_wait: Called once for each holder waited for.
        cancelled: Asked while waiting; True ends the wait.
        wait: False raises at once where the lock is held.

    Raises:
        Held: It is held, and `wait` is False.
        Interrupted: `cancelled` said so.
        StoreError: The file cannot be made or locked.
    """
    descriptor = _acquire(path, fcntl.LOCK_EX, on_wait, cancelled, wait)
    with _held(descriptor):
        yield


@contextlib.contextmanager
def share(
    path: Path,
    *,
    on_wait: OnWait | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[None]:
    """Hold a lock together with others, waiting while somebody holds it alone.

    Where the folder cannot be written (read-only, or full), an existing lock file is still locked;
    where there is none, nobody can hold it alone from here, and the block simply runs.

    Raises:
        Interrupted: `cancelled` said so.
        StoreError: The file cannot be locked.
    """
    with contextlib.ExitStack() as stack:
        try:
            descriptor = _acquire(path, fcntl.LOCK_SH, on_wait, cancelled, True)
        except StoreError as error:
            if not isinstance(error.__cause__, OSError) or not _cannot_make(error.__cause__):
                raise
        else:
            stack.callback(os.close, descriptor)
            stack.enter_context(_ticket(path))
        yield


@contextlib.contextmanager
def exclude(path: Path, what: str) -> Iterator[None]:
    """Hold a lock alone that others `share`.

    Raises:
        Held: Somebody holds it; `what` is the error's first line, and every holder is named.
        StoreError: The file cannot be made or locked.
    """
    descriptor = _acquire(path, fcntl.LOCK_EX, None, None, False, what)
    with _held(descriptor):
        yield


@contextlib.contextmanager
def _held(descriptor: int) -> Iterator[None]:
    try:
        write_holder(descriptor)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)


def try_lock(path: Path | str, flags: int = os.O_RDWR | os.O_CREAT) -> int | None:
    """Lock a file or folder without waiting; return its descriptor, or None where it is held.

    The name still leads to the locked file afterwards: one that was removed in between is opened
    again.

    Raises:
        OSError: It cannot be opened or locked.
    """
    return _try(path, fcntl.LOCK_EX, flags)


def read_holder(path: Path) -> Holder | None:
    """Return the holder that a lock file names, or None where it names none."""
    try:
        fields = json.loads(path.read_bytes())
        return Holder(pid=int(fields["pid"]), host=str(fields["host"]), since=str(fields["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_holder(descriptor: int) -> None:
    """Write this process's name into a lock file that it holds."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    holder = {"pid": os.getpid(), "host": os.uname().nodename, "since": since}
    # A full disk must not fail a lock that is already held: the text is for waiters only.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode("ascii"), 0)


def _acquire(
    path: Path,
    operation: int,
    on_wait: OnWait | None,
    cancelled: Callable[[], bool] | None,
    wait: bool,
    what: str | None = None,
) -> int:
    delay = _SHORTEST_WAIT
    told: Holder | None = None
    while True:
        try:
            descriptor = _try_or_make(path, operation)
        except OSError as error:
            raise StoreError(
                f"The lock {path} cannot be taken: {error.strerror}.",
                "The folder cannot be written, or its filesystem has no locks.",
                "Check the folder's owner and free space, or name another one.",
            ) from error
        if descriptor is not None:
            return descriptor
        if not wait:
            raise Held(what or f"The lock {path} is held.", _holders(path))
        holder = read_holder(path) or UNKNOWN
        if on_wait is not None and delay == _LONGEST_WAIT and holder != told:
            told = holder
            on_wait(holder)
        if cancelled is not None and cancelled():
            raise Interrupted(f"Stopped while waiting for {holder}.")
        time.sleep(delay)
        delay = min(2 * delay, _LONGEST_WAIT)


def _try_or_make(path: Path, operation: int) -> int | None:
    try:
        return _try(path, operation, os.O_RDWR | os.O_CREAT)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _try(path, operation, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        if operation != fcntl.LOCK_SH or not _cannot_make(error):
            raise
        return _try(path, operation, os.O_RDONLY)


def _try(path: Path | str, operation: int, flags: int) -> int | None:
    while True:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(descriptor: int, path: Path | str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _cannot_make(error: OSError) -> bool:
    return error.errno in _CANNOT_MAKE


@contextlib.contextmanager
def _ticket(path: Path) -> Iterator[None]:
    # Those who share a lock cannot all write into it: each names itself in a file of its own.
    folder = path.with_suffix(".users")
    ticket = folder / f"{os.getpid()}-{os.urandom(6).hex()}"
    try:
        folder.mkdir(exist_ok=True)
        descriptor = try_lock(ticket)
    except OSError:
        descriptor = None
    if descriptor is None:
        yield
        return
    try:
        write_holder(descriptor)
        yield
    finally:
        with contextlib.suppress(OSError):
            ticket.unlink()
        os.close(descriptor)


def dead_tickets(path: Path) -> list[Path]:
    """Return the tickets of a shared lock whose writers are gone."""
    dead, _ = _sort_tickets(path)
    return dead


def _holders(path: Path) -> tuple[Holder, ...]:
    _, living = _sort_tickets(path)
    alone = read_holder(path)
    return tuple(living) or ((alone,) if alone is not None else ())


def _sort_tickets(path: Path) -> tuple[list[Path], list[Holder]]:
    dead: list[Path] = []
    living: list[Holder] = []
    with contextlib.suppress(FileNotFoundError):
        for ticket in sorted(path.with_suffix(".users").iterdir()):
            try:
                descriptor = try_lock(ticket, os.O_RDONLY)
            except OSError:
                continue
            if descriptor is None:
                living.append(read_holder(ticket) or UNKNOWN)
            else:
                dead.append(ticket)
                os.close(descriptor)
    return dead, living
