"""modelkiln.fetch.download against a server that misbehaves."""

import errno
import hashlib
import os
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest

from modelkiln.errors import EnvironmentFailure, KilnError, OutOfSpace, PinError
from modelkiln.fetch import download as module
from modelkiln.fetch.download import Patience, copy, download, incomplete, missing_bytes
from modelkiln.fetch.http import Unavailable
from tests.modelkiln.fetch.small import BODY, PIN
from tests.modelkiln.misbehaving import (
    FileServer,
    Handler,
    Told,
    break_off,
    drip,
    properly,
    say,
    stall,
)

PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


def only(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_arrives_whole_read_only_and_alone(
    server: FileServer, tmp_path: Path, patience: Patience
) -> None:
    told = Told()
    path = download(server.url, PIN, tmp_path, on_progress=told, patience=patience)
    assert path.read_bytes() == BODY
    assert path.stat().st_mode & 0o777 == 0o444
    assert only(tmp_path) == ["small.pt"]
    assert told.shares[-1] == 1.0
    assert "512.0 kB of 512.0 kB" in told.texts[-1]


@pytest.mark.parametrize("reset", [False, True])
def test_broken_connection_is_continued(
    server: FileServer, get: Callable[[], Path], reset: bool
) -> None:
    server.script = [break_off(300_000, reset=reset)]
    assert get().read_bytes() == BODY
    assert len(server.seen) == 2
    if not reset:  # after a reset, less may have arrived than was sent
        assert server.seen[1]["Range"] == "bytes=300000-"
        assert server.seen[1]["If-Range"] == '"one"'


def test_a_later_call_continues_what_an_earlier_one_left(
    server: FileServer, get: Callable[[], Path], tmp_path: Path
) -> None:
    incomplete(tmp_path, PIN).write_bytes(BODY[:500_000])
    assert missing_bytes(PIN, tmp_path) == 12_000
    assert get().read_bytes() == BODY
    assert server.seen[0]["Range"] == "bytes=500000-"


def test_a_whole_incomplete_file_needs_no_server(
    server: FileServer, get: Callable[[], Path], tmp_path: Path
) -> None:
    incomplete(tmp_path, PIN).write_bytes(BODY)
    assert get().read_bytes() == BODY
    assert server.seen == []


def test_changed_etag_starts_anew(server: FileServer, get: Callable[[], Path]) -> None:
    def change(handler: Handler) -> None:
        break_off(300_000)(handler)
        server.etag = '"two"'

    server.script = [change]
    assert get().read_bytes() == BODY
    assert server.seen[1]["If-Range"] == '"one"'


def test_pieces_of_two_files_are_fetched_anew_once(
    server: FileServer, get: Callable[[], Path], tmp_path: Path
) -> None:
    incomplete(tmp_path, PIN).write_bytes(b"\0" * 500_000)
    assert get().read_bytes() == BODY
    assert [headers["Range"] for headers in server.seen] == ["bytes=500000-", None]


def test_a_range_of_another_length_is_refused(
    server: FileServer, get: Callable[[], Path], tmp_path: Path
) -> None:
    incomplete(tmp_path, PIN).write_bytes(BODY[:100])
    server.script = [say(206, {"Content-Range": "bytes 100-199/200"}, b"x" * 100)]
    assert get().read_bytes() == BODY
    assert server.seen[1]["Range"] is None


def test_range_not_satisfiable_starts_anew(
    server: FileServer, get: Callable[[], Path], tmp_path: Path
) -> None:
    incomplete(tmp_path, PIN).write_bytes(BODY[:100])
    server.script = [say(416)]
    assert get().read_bytes() == BODY
    assert server.seen[1]["Range"] is None


def test_an_ignored_range_starts_anew(
    server: FileServer, get: Callable[[], Path], tmp_path: Path
) -> None:
    incomplete(tmp_path, PIN).write_bytes(b"\0" * 500_000)
    server.etag = '"other"'
    server.script = [say(200, {"Content-Type": "application/octet-stream"}, BODY)]
    assert get().read_bytes() == BODY


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_server_errors_are_tried_again(
    server: FileServer, get: Callable[[], Path], pauses: list[float], status: int
) -> None:
    server.script = [say(status), say(status)]
    assert get().read_bytes() == BODY
    assert pauses == [1.0, 2.0]


def test_a_storm_of_server_errors_ends(server: FileServer, get: Callable[[], Path]) -> None:
    server.script = [say(500)] * 10
    with pytest.raises(Unavailable, match="500 Internal Server Error") as caught:
        get()
    assert caught.value.exit_code == 4
    assert "again later" in caught.value.next
    assert len(server.seen) == 3


def test_retry_after_is_waited_for(
    server: FileServer, get: Callable[[], Path], pauses: list[float]
) -> None:
    server.script = [say(429, {"Retry-After": "17"})]
    get()
    assert pauses == [17.0]


def test_a_retry_after_of_hours_is_not_waited_for(
    server: FileServer, get: Callable[[], Path], pauses: list[float]
) -> None:
    server.script = [say(429, {"Retry-After": "86400"})]
    with pytest.raises(Unavailable, match="429"):
        get()
    assert pauses == []


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_will_not_pass_is_not_tried_again(
    server: FileServer, get: Callable[[], Path], pauses: list[float], status: int
) -> None:
    server.script = [say(status)]
    with pytest.raises(Unavailable, match=str(status)):
        get()
    assert len(server.seen) == 1
    assert pauses == []


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_in_place_of_the_file(
    server: FileServer, get: Callable[[], Path], tmp_path: Path, kind: str
) -> None:
    page = PAGE.ljust(len(BODY))
    server.script = [say(200, {"Content-Type": kind}, page)]
    with pytest.raises(Unavailable, match="web page"):
        get()
    assert not (tmp_path / "small.pt").exists()
    assert missing_bytes(PIN, tmp_path) == len(BODY)


@pytest.mark.parametrize("size", [len(BODY) - 1, len(BODY) + 1])
def test_wrong_length_is_known_before_the_body(
    server: FileServer, get: Callable[[], Path], tmp_path: Path, size: int
) -> None:
    server.script = [say(200, {"Content-Length": str(size)})]
    with pytest.raises(PinError, match=str(size)) as caught:
        get()
    assert caught.value.exit_code == 3
    assert not (tmp_path / "small.pt").exists()


def test_a_body_without_a_length_that_is_too_long(
    server: FileServer, get: Callable[[], Path], tmp_path: Path
) -> None:
    server.script = [lambda handler: handler.answer(200, {}, BODY + b"more")]
    with pytest.raises(PinError, match="512004"):
        get()
    assert missing_bytes(PIN, tmp_path) == len(BODY)


def test_a_body_without_a_length(server: FileServer, get: Callable[[], Path]) -> None:
    server.script = [lambda handler: handler.answer(200, {}, BODY)]
    assert get().read_bytes() == BODY


def test_an_unasked_coding_is_refused(server: FileServer, get: Callable[[], Path]) -> None:
    server.script = [say(200, {"Content-Encoding": "gzip"}, BODY)]
    with pytest.raises(Unavailable, match="gzip"):
        get()
    assert server.seen[0]["Accept-Encoding"] == "identity"


def test_tampered_file_is_removed_and_both_digests_named(
    server: FileServer, get: Callable[[], Path], tmp_path: Path
) -> None:
    server.body = BODY[:-1] + b"!"
    with pytest.raises(PinError) as caught:
        get()
    assert PIN.sha256 in caught.value.why
    assert hashlib.sha256(server.body).hexdigest() in caught.value.why
    assert len(server.seen) == 1
    assert only(tmp_path) == []


def test_slow_loris_is_given_up(server: FileServer, get: Callable[[], Path]) -> None:
    server.script = [drip] * 3
    with pytest.raises(Unavailable, match="almost nothing"):
        get()


def test_silence_is_given_up_and_continued(server: FileServer, get: Callable[[], Path]) -> None:
    server.script = [stall, properly]
    assert get().read_bytes() == BODY


def test_full_disk_while_writing(
    get: Callable[[], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Full(FileIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "_open", lambda path, mode: Full(path, mode))
    with pytest.raises(OutOfSpace) as caught:
        get()
    assert caught.value.exit_code == 9
    assert not (tmp_path / "small.pt").exists()


def test_unwritable_folder(server: FileServer, tmp_path: Path, patience: Patience) -> None:
    folder = tmp_path / "absent"
    with pytest.raises(EnvironmentFailure, match="cannot be written"):
        download(server.url, PIN, folder, on_progress=Told(), patience=patience)


def test_copy_checks_size_and_digest(tmp_path: Path) -> None:
    given, folder = tmp_path / "given", tmp_path / "folder"
    folder.mkdir()
    given.write_bytes(BODY)
    assert copy(given, PIN, folder, on_progress=Told()).read_bytes() == BODY
    (folder / PIN.file).unlink()
    errors: list[KilnError] = []
    for wrong in (BODY[:-1], BODY[:-1] + b"!"):
        given.write_bytes(wrong)
        with pytest.raises(PinError) as caught:
            copy(given, PIN, folder, on_progress=Told())
        errors.append(caught.value)
        assert only(folder) == []
    assert "511999" in errors[0].why
    assert PIN.sha256 in errors[1].why


def test_a_kill_leaves_nothing_under_the_final_name(server: FileServer, tmp_path: Path) -> None:
    server.script = [stall]
    pid = os.fork()
    if pid == 0:
        try:
            download(server.url, PIN, tmp_path, on_progress=Told())
        finally:
            os._exit(0)
    deadline = threading.Event()
    for _ in range(200):
        if incomplete(tmp_path, PIN).exists():
            break
        deadline.wait(0.01)
    os.kill(pid, 9)
    assert os.waitpid(pid, 0)[1] == 9
    assert PIN.file not in only(tmp_path)
