"""A registry of images on this machine: it answers for manifests, after giving out a token."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit


class FakeRegistry(BaseHTTPRequestHandler):
    """Behaves as the distribution specification says, for the manifests that it is given.

    Attributes:
        manifests: The digest that each tag or digest of team/python has.
        status: What it answers to every question instead, where it is not 0.
        realm: Where it sends for a token; empty for itself.
        methods: How it was asked.
    """

    manifests: ClassVar[dict[str, str]] = {}
    status: ClassVar[int] = 0
    realm: ClassVar[str] = ""
    methods: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == "/token" and query.get("scope") == ["repository:team/python:pull"]:
            assert query["service"] == ["fake"]
            self._answer(200, {}, json.dumps({"token": "good"}).encode())
        else:
            self._answer(404)

    def do_HEAD(self) -> None:
        self.methods.append(self.path)
        host = f"http://{self.headers['Host']}"
        if self.status:
            self._answer(self.status)
        elif self.headers.get("Authorization") != "Bearer good":
            realm = self.realm or f"{host}/token"
            challenge = f'Bearer realm="{realm}",service="fake",scope="ignored"'
            self._answer(401, {"WWW-Authenticate": challenge})
        elif "application/vnd.oci.image.index.v1+json" not in self.headers["Accept"]:
            self._answer(406)
        else:
            reference = self.path.removeprefix("/v2/team/python/manifests/")
            digest = self.manifests.get(reference)
            if digest is None:
                self._answer(404)
            else:
                self._answer(200, {"Docker-Content-Digest": digest})

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, headers: Mapping[str, str] = {}, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@contextmanager
def serve(registry: type[FakeRegistry]) -> Iterator[str]:
    """Give the registry's host and port for the length of a `with` block."""
    with ThreadingHTTPServer(("127.0.0.1", 0), registry) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


DIGEST = f"sha256:{'ab' * 32}"


OTHER = f"sha256:{'cd' * 32}"
