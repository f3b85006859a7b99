"""A registry of one small image, on this machine, which a Docker engine pulls from without TLS."""

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator, Mapping

from modelkiln.environments.base_images import BasePin

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def make_blobs(text: str) -> tuple[str, dict[str, bytes]]:
    """The digest of an image's manifest, and all that its registry holds, by digest."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))
    packed = gzip.compress(layer.getvalue(), mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer.getvalue())]},
            "history": [{"created": "2024-01-01T00:00:00Z"}],
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(config),
                "digest": digest_of(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": len(packed),
                    "digest": digest_of(packed),
                }
            ],
        }
    ).encode()
    return digest_of(manifest), {digest_of(one): one for one in (config, packed, manifest)}


@contextlib.contextmanager
def serve(blobs: Mapping[str, bytes]) -> Iterator[str]:
    """Serve blobs; gives the registry's host and port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            body = blobs.get(name)
            kind = _MANIFEST if "/manifests/" in self.path else "application/octet-stream"
            if self.path.rstrip("/") == "/v2":
                body, kind = b"{}", "application/json"
            error = {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}
            missing = json.dumps({"errors": [error]}).encode()
            if body is None:
                kind = "application/json"
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", kind)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            if body is not None and name.startswith("sha256:"):
                self.send_header("Docker-Content-Digest", name)
            said = missing if body is None else body
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def pin(host: str, digest: str) -> BasePin:
    return BasePin(
        name="python",
        image=f"{host}/base",
        tag="3.11",
        digest=digest,
        interpreter="cpython-3.11.9-x86_64",
    )
