"""HTTP as downloads need it: nothing but HTTP, no downgrade, and every failure judged once."""

import email.utils
import errno
import http.client
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import pytest

from modelkiln.fetch.download import Patience, download
from modelkiln.fetch.http import (
    Interruption,
    Unavailable,
    _Redirects,
    describe,
    is_reachable,
    open_url,
)
from tests.modelkiln.fetch.small import BODY, PIN
from tests.modelkiln.misbehaving import (
    FileServer,
    Told,
    say,
    serve,
)


def test_nothing_listens(tmp_path: Path, patience: Patience) -> None:
    with pytest.raises(Unavailable, match="refused"):
        download("http://127.0.0.1:9/x", PIN, tmp_path, on_progress=Told(), patience=patience)


def test_only_http_is_opened(tmp_path: Path, patience: Patience) -> None:
    (tmp_path / "secret").write_bytes(BODY)
    url = (tmp_path / "secret").as_uri()
    with pytest.raises(Unavailable, match="cannot be opened"):
        download(url, PIN, tmp_path, on_progress=Told(), patience=patience)


def test_redirect_to_plain_http_is_refused() -> None:
    request = urllib.request.Request("https://host.example/file")
    with pytest.raises(Unavailable, match="not encrypted"):
        _Redirects().redirect_request(
            request, BytesIO(), 302, "Found", HTTPMessage(), "http://host.example/file"
        )


def test_redirect_between_equals_is_followed(server: FileServer, get: Callable[[], Path]) -> None:
    server.script = [say(302, {"Location": f"{server.url}/elsewhere"})]
    assert get().read_bytes() == BODY


def test_untrusted_certificate(tmp_path: Path, patience: Patience) -> None:
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("openssl is not installed")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with serve(BODY) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        with pytest.raises(Unavailable, match="not trusted") as caught:
            download(url, PIN, tmp_path, on_progress=Told(), patience=patience)
    assert "SSL_CERT_FILE" in caught.value.next


def test_reachable(server: FileServer) -> None:
    assert is_reachable(server.url, 1.0)
    server.script = [say(404), say(200, {"Content-Type": "text/html"}), say(503)]
    assert [is_reachable(server.url, 1.0) for _ in range(3)] == [False, False, False]
    assert not is_reachable("http://127.0.0.1:9/x", 1.0)


@pytest.mark.parametrize(
    ("status", "headers", "after", "restart"),
    [
        (503, {}, None, False),
        (429, {"Retry-After": " 7 "}, 7.0, False),
        (429, {"Retry-After": "soon"}, None, False),
        (429, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0, False),
        (416, {}, 0.0, True),
    ],
)
def test_a_failure_that_may_pass_says_when(
    server: FileServer, status: int, headers: dict[str, str], after: float | None, restart: bool
) -> None:
    server.script = [say(status, headers)]
    with pytest.raises(Interruption) as caught:
        open_url(server.url, {}, 1.0)
    assert (caught.value.after, caught.value.restart) == (after, restart)


def test_a_date_to_wait_for_is_counted_from_now(server: FileServer) -> None:
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    server.script = [say(503, {"Retry-After": date})]
    with pytest.raises(Interruption) as caught:
        open_url(server.url, {}, 1.0)
    assert caught.value.after == pytest.approx(60, abs=3)


def test_a_host_that_no_name_server_knows_will_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(number, "of this name")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "host.example")
    number = socket.EAI_NONAME
    with pytest.raises(Unavailable, match="its host name is not known"):
        open_url("http://host.example/file", {}, 1.0)
    number = socket.EAI_AGAIN
    with pytest.raises(Interruption, match="cannot be reached"):
        open_url("http://host.example/file", {}, 1.0)


def test_a_server_that_says_nothing_is_an_interruption(server: FileServer) -> None:
    server.script = [lambda _: None]
    with pytest.raises(Interruption, match="does not answer"):
        open_url(server.url, {}, 1.0)


def test_failures_are_told_in_a_few_words() -> None:
    assert describe(TimeoutError()) == "timed out"
    assert describe(OSError(errno.ECONNREFUSED, "Connection refused")) == "connection refused"
    assert describe(http.client.IncompleteRead(b"")) == "IncompleteRead(0 bytes read)"
    assert describe(ValueError()) == "ValueError"
