"""Fetches one pinned file: resumable, checked against its size and SHA-256 before it gets its name.

What arrives is kept as NAME.incomplete, with NAME.origin.json (where it came from) for resuming.
Only a file whose digest is right is renamed to NAME.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from modelkiln.errors import EnvironmentFailure, KilnError, OutOfSpace, PinError
from modelkiln.util.console import OnProgress
from modelkiln.util.units import human_bytes

if TYPE_CHECKING:
    from http.client import HTTPResponse

# Told of progress: the share done from 0 to 1, or None where not known, and what is being done.

_CHUNK = 1 << 18
_TELL_EVERY = 0.5


class Pin(Protocol):
    """A file that is known before it is fetched, such as a checkpoint of the catalog."""

    @property
    def file(self) -> str:
        """Its name."""

    @property
    def bytes(self) -> int:
        """Its length."""

    @property
    def sha256(self) -> str:
        """Its SHA-256, lower-case hex."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is waited for. The defaults are for people, others for tests.

    Attributes:
        timeout: Seconds without one byte after which a connection counts as dead.
        window: Seconds over which the speed is judged.
        slowest: Bytes per second below which a connection is given up.
        attempts: Attempts in a row that may bring (nearly) nothing new.
        pause: Seconds before the second attempt; doubled for each further one, up to 30.
        longest_pause: The longest Retry-After that is waited for, in seconds.
        sleep: What waits.
    """

    timeout: float = 30.0
    window: float = 60.0
    slowest: float = 2000.0
    attempts: int = 5
    pause: float = 1.0
    longest_pause: float = 300.0
    sleep: Callable[[float], None] = time.sleep


def download(
    url: str,
    pin: Pin,
    folder: Path,
    *,
    on_progress: OnProgress,
    patience: Patience | None = None,
) -> Path:
    """Fetch a file over HTTP into a folder that nobody else fills now; return its path.

    Continues what an earlier call left. Broken connections, 429 (with its Retry-After), 408 and
    server errors are tried again; what will not pass is not.

    Raises:
        Unavailable: The server cannot be reached, or does not have the file.
        PinError: What the server sends is not the pinned file.
        OutOfSpace: The disk is full.
    """
    from modelkiln.fetch.http import Interruption, Unavailable

    patience = patience or Patience()
    made = incomplete(folder, pin)
    failures, resumed = 0, _size(made) > 0
    while True:
        before = _size(made)
        try:
            _attempt(url, pin, folder, on_progress, patience)
            return place(pin, folder, made, url)
        except PinError:
            if not resumed:
                raise
            # The pieces may be of two files: the server's changed in between.
            resumed, failures = False, 0
            discard(pin, folder)
            on_progress(None, f"{pin.file} was continued and came out wrong; fetching it anew")
            continue
        except Interruption as error:
            why, after = str(error), error.after
            if error.restart:
                discard(pin, folder)
        gained = _size(made) - before
        resumed = resumed or _size(made) > 0
        failures = 1 if gained > pin.bytes // 100 else failures + 1
        pause = min(30.0, patience.pause * 2 ** (failures - 1)) if after is None else after
        if failures >= patience.attempts or pause > patience.longest_pause:
            raise Unavailable(
                f"{pin.file} could not be downloaded from {url}.",
                f"The last of {failures} failed attempts: {why}.",
                "Run the same command again later; it continues where this one stopped.",
            )
        on_progress(None, f"{why}; trying again in {pause:.0f} s")
        patience.sleep(pause)


def copy(source: Path, pin: Pin, folder: Path, *, on_progress: OnProgress) -> Path:
    """Copy a file of this machine into a folder that nobody else fills now; return its path.

    Raises:
        PinError: It is not the pinned file.
        EnvironmentFailure: It cannot be read, or the folder cannot be written.
        OutOfSpace: The disk is full.
    """
    made = incomplete(folder, pin)
    try:
        size = source.stat().st_size
        if size != pin.bytes:
            raise wrong_size(pin, str(source), size)
        meter = _Meter(pin, on_progress, "copying")
        with source.open("rb") as given, _open(made, "wb") as file:
            while block := given.read(_CHUNK):
                _write(file, block)
                meter.add(len(block))
            _finish(file)
    except OSError as error:
        raise EnvironmentFailure(
            f"{source} cannot be read.", f"{error.strerror}.", "Check its owner and mode."
        ) from error
    return place(pin, folder, made, str(source))


def place(pin: Pin, folder: Path, made: Path, origin: str) -> Path:
    """Give a whole file its name where its digest is right; remove it otherwise.

    Raises:
        PinError: The digest is another one.
    """
    from modelkiln.util.hashing import sha256_file

    found = sha256_file(made)
    if found != pin.sha256:
        discard(pin, folder)
        raise PinError(
            f"{origin} is not the file that the catalog pins.",
            f"Expected SHA-256 {pin.sha256}, found {found}; it was removed.",
            "Name another mirror with MODELKILN_MIRROR. If the publisher really changed the file, "
            "the catalog must be changed with care.",
        )
    made.chmod(0o444)
    final = folder / pin.file
    made.rename(final)
    discard(pin, folder)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return final


def incomplete(folder: Path, pin: Pin) -> Path:
    """Return where the bytes that have arrived are kept."""
    return folder / f"{pin.file}.incomplete"


def missing_bytes(pin: Pin, folder: Path) -> int:
    """Return the bytes that are still to be fetched."""
    return max(0, pin.bytes - _size(incomplete(folder, pin)))


def discard(pin: Pin, folder: Path) -> None:
    """Remove what an unfinished download left."""
    incomplete(folder, pin).unlink(missing_ok=True)
    _origin(folder, pin).unlink(missing_ok=True)


def looks_like_html(head: bytes) -> bool:
    """Return whether a file begins as a web page does."""
    text = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))


def wrong_size(pin: Pin, origin: str, size: int) -> PinError:
    """Return the error for a file whose length shows that it is another one."""
    return PinError(
        f"{origin} is not the file that the catalog pins.",
        f"{pin.file} has {pin.bytes} bytes, this has {size}.",
        "Check the address or the mirror. A file that was cut short must be fetched again.",
    )


def _attempt(url: str, pin: Pin, folder: Path, on_progress: OnProgress, patience: Patience) -> None:
    """Fetch what is missing; the incomplete file is whole when this returns."""
    import http.client

    from modelkiln.fetch.http import Interruption, describe, open_url

    made = incomplete(folder, pin)
    have = _size(made)
    if have == pin.bytes:
        return
    if have > pin.bytes:
        discard(pin, folder)
        have = 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-"} | _condition(folder, pin, url)
    with open_url(url, headers, patience.timeout) as response:
        start = _accept(response, url, pin, have, folder)
        meter = _Meter(pin, on_progress, "downloading", start)
        with _open(made, "r+b" if start else "wb") as file:
            file.seek(start)
            try:
                _receive(response, file, url, pin, meter, patience)
            except (OSError, http.client.HTTPException) as error:
                raise Interruption(f"the connection broke ({describe(error)})") from error
            finally:
                _finish(file)


def _condition(folder: Path, pin: Pin, url: str) -> dict[str, str]:
    """Return the header that makes a server continue only the very file that was begun (RFC
    9110).
    """
    import json

    try:
        origin = json.loads(_origin(folder, pin).read_bytes())
        etag, modified = str(origin["etag"]), str(origin["modified"])
        if origin["url"] != url:
            return {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if etag and not etag.startswith("W/"):
        return {"If-Range": etag}
    return {"If-Range": modified} if modified else {}


def _accept(response: "HTTPResponse", url: str, pin: Pin, have: int, folder: Path) -> int:
    """Check what a response promises; return the offset at which its body begins."""
    import json

    from modelkiln.fetch.http import Interruption, Unavailable

    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise _web_page(url, pin)
    coding = response.headers.get("Content-Encoding", "identity")
    if coding != "identity":
        raise Unavailable(
            f"{url} answers in the coding {coding}, which was not asked for.",
            "The server, or a proxy on the way, changes files.",
            "Name a mirror with MODELKILN_MIRROR, or the downloaded file itself.",
        )
    start = 0
    if response.status == 206:
        span = response.headers.get("Content-Range", "")
        if span != f"bytes {have}-{pin.bytes - 1}/{pin.bytes}":
            raise Interruption(f"the server continues another file ({span})", 0.0, restart=True)
        start = have
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and start + int(length) != pin.bytes:
        raise wrong_size(pin, url, start + int(length))
    origin = {
        "url": url,
        "etag": response.headers.get("ETag", ""),
        "modified": response.headers.get("Last-Modified", ""),
    }
    with _open(_origin(folder, pin), "wb") as file:
        _write(file, json.dumps(origin).encode("ascii"))
    return start


def _receive(
    response: "HTTPResponse",
    file: FileIO,
    url: str,
    pin: Pin,
    meter: "_Meter",
    patience: Patience,
) -> None:
    from modelkiln.fetch.http import Interruption

    judged, arrived = time.monotonic(), 0
    while block := response.read1(_CHUNK):
        if meter.done == 0 and looks_like_html(block):
            raise _web_page(url, pin)
        if meter.done + len(block) > pin.bytes:
            file.truncate(0)
            raise wrong_size(pin, url, meter.done + len(block))
        _write(file, block)
        meter.add(len(block))
        arrived += len(block)
        now = time.monotonic()
        if now - judged >= patience.window:
            if arrived < patience.slowest * (now - judged):
                raise Interruption("the server sends almost nothing")
            judged, arrived = now, 0
    if meter.done < pin.bytes:
        raise Interruption(f"the connection ended after {meter.done} of {pin.bytes} bytes")


class _Meter:
    """Counts the bytes of a file, and tells of them twice a second."""

    def __init__(self, pin: Pin, on_progress: OnProgress, verb: str, done: int = 0) -> None:
        self.done = self._start = done
        self._pin, self._tell, self._verb = pin, on_progress, verb
        self._began = self._told = time.monotonic()

    def add(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self._told < _TELL_EVERY and self.done < self._pin.bytes:
            return
        self._told = now
        speed = round((self.done - self._start) / max(now - self._began, 1e-3))
        self._tell(
            self.done / self._pin.bytes,
            f"{self._verb} {self._pin.file}: {human_bytes(self.done)} of "
            f"{human_bytes(self._pin.bytes)}, {human_bytes(speed)}/s",
        )


def _web_page(url: str, pin: Pin) -> KilnError:
    from modelkiln.fetch.http import Unavailable

    return Unavailable(
        f"{url} answers with a web page, not with {pin.file}.",
        "A login page, a proxy's page or an error page stands in its place.",
        "Open the address in a browser to see which. Then name a mirror with MODELKILN_MIRROR, or "
        "the downloaded file itself.",
    )


def _open(path: Path, mode: Literal["wb", "r+b"]) -> FileIO:
    # Without a buffer, an error comes from the write that it belongs to, never from close().
    try:
        return path.open(mode, buffering=0)
    except OSError as error:
        raise _unwritable(path, error) from error


def _write(file: FileIO, block: bytes) -> None:
    rest = memoryview(block)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _unwritable(Path(str(file.name)), error) from error


def _finish(file: FileIO) -> None:
    try:
        os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(Path(str(file.name)), error) from error


def _unwritable(path: Path, error: OSError) -> KilnError:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfSpace(
            f"The disk is full: {path} cannot be written.",
            f"{error.strerror}. What has arrived is kept.",
            "Free some with invoke env.prune or invoke store.gc, then run the same command again.",
        )
    return EnvironmentFailure(
        f"{path} cannot be written.",
        f"{error.strerror}.",
        "Check the folder's owner, or set MODELKILN_CACHE to another one.",
    )


def _origin(folder: Path, pin: Pin) -> Path:
    return folder / f"{pin.file}.origin.json"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
