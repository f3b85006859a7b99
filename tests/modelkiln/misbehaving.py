"""A server on 127.0.0.1 that serves one file, and misbehaves as a test tells it to."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers with the next behaviour of its server's script, or properly when that is used up."""

    protocol_version = "HTTP/1.1"
    server: "FileServer"

    def do_GET(self) -> None:
        self.server.seen.append(self.headers)
        self.close_connection = True
        script = self.server.script
        (script.pop(0) if script else properly)(self)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        """Send headers (Content-Length only if given), then a body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class FileServer(ThreadingHTTPServer):
    """Serves `body`; remembers the headers of every request in `seen`."""

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = body
        self.etag = '"one"'
        self.script: list[Behaviour] = []
        self.seen: list[Message] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass


Behaviour = Callable[[Handler], None]


def properly(handler: Handler) -> None:
    """The file, continued where asked, as RFC 9110 says."""
    server, asked = handler.server, handler.headers
    headers = {"ETag": server.etag, "Content-Type": "application/octet-stream"}
    span, condition = asked.get("Range"), asked.get("If-Range")
    if span and condition in (None, server.etag):
        start = int(span.removeprefix("bytes=").rstrip("-"))
        size = len(server.body)
        headers |= {
            "Content-Range": f"bytes {start}-{size - 1}/{size}",
            "Content-Length": str(size - start),
        }
        handler.answer(206, headers, server.body[start:])
    else:
        headers["Content-Length"] = str(len(server.body))
        handler.answer(200, headers, server.body)


def break_off(after: int, *, reset: bool = False) -> Behaviour:
    """The right headers, then only some bytes; closed, or reset."""

    def behave(handler: Handler) -> None:
        server = handler.server
        headers = {"ETag": server.etag, "Content-Length": str(len(server.body))}
        handler.answer(200, headers, server.body[:after])
        if reset:
            handler.wfile.flush()
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.close()

    return behave


def drip(handler: Handler) -> None:
    """The right headers, then a byte now and then, until the test ends."""
    server = handler.server
    handler.answer(200, {"Content-Length": str(len(server.body))})
    for index in range(len(server.body)):
        handler.wfile.write(server.body[index : index + 1])
        if server.released.wait(0.02):
            return


def stall(handler: Handler) -> None:
    """The right headers, then nothing, until the test ends."""
    handler.answer(200, {"Content-Length": str(len(handler.server.body))})
    handler.server.released.wait(5)


def say(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Behaviour:
    """A fixed answer with the right length of its own."""

    def behave(handler: Handler) -> None:
        handler.answer(status, {"Content-Length": str(len(body)), **(headers or {})}, body)

    return behave


@contextmanager
def serve(body: bytes) -> Iterator[FileServer]:
    """Serve a file for the length of a `with` block."""
    server = FileServer(body)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Told:
    """Remembers what was told of progress."""

    shares: list[float | None] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __call__(self, share: float | None, text: str) -> None:
        self.shares.append(share)
        self.texts.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)
