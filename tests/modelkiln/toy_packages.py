"""Packages of a few lines, an index that serves them, and environments that are locked to them."""

import base64
import contextlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from modelkiln.environments.environment import Environment, environment
from modelkiln.util.hashing import sha256_file

# What builds the package that comes as source; it insists on its variable.
BACKEND = """
import os, zipfile
METADATA = "Metadata-Version: 2.1\\nName: fromsource\\nVersion: 2.0\\n"
def _require():
    if os.environ.get("SMALL_BUILD") != "0":
        raise SystemExit("SMALL_BUILD is not 0")
def get_requires_for_build_wheel(config_settings=None):
    return []
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    _require()
    place = os.path.join(folder, "fromsource-2.0.dist-info")
    os.mkdir(place)
    with open(os.path.join(place, "METADATA"), "w") as file:
        file.write(METADATA)
    return "fromsource-2.0.dist-info"
def build_wheel(folder, config_settings=None, metadata_directory=None):
    _require()
    name = "fromsource-2.0-py3-none-any.whl"
    info = "fromsource-2.0.dist-info"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("fromsource.py", "VALUE = 2\\n")
        wheel.writestr(info + "/METADATA", METADATA)
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr(info + "/RECORD", "")
    return name
"""


def make_wheel(
    folder: Path, name: str, source: str = "", version: str = "1.0", tag: str = "py3-none-any"
) -> Path:
    """A wheel with one module."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", source or f"NAME = {name!r}\n")
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def make_sdist(folder: Path) -> Path:
    """A package that comes as source, built by the package `smallbackend`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fromsource-2.0.tar.gz"
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: fromsource\nVersion: 2.0\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "smallbackend"\n',
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"fromsource-2.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def make_environment(
    rooms: Path,
    packages: Mapping[str, Path],
    *,
    name: str = "locked",
    seed: tuple[str, ...] = (),
    dockerfile: str = "FROM scratch\n",
    selftest: str = "",
) -> Environment:
    """An environment that is locked to these packages, `name==version` and the file of each."""
    room = rooms / name
    room.mkdir(parents=True)
    lock = [f"{one} --hash=sha256:{sha256_file(path)}\n" for one, path in packages.items()]
    (room / "requirements.txt").write_text("# By hand.\n" + "".join(lock))
    quoted = ", ".join(f'"{one}"' for one in seed)
    (room / "environment.toml").write_text(
        f'summary = "locked"\nbytes = 1000\nseed = [{quoted}]\n[variables]\nSMALL_BUILD = "0"\n'
    )
    (room / "Dockerfile").write_text(dockerfile)
    (room / "selftest.py").write_text(selftest)
    return environment(name, rooms)


class Index:
    """An index of packages on this machine, which asks for a name and a password.

    Attributes:
        url: With the name and the password.
        asked: Paths that were asked for with the right password.
        refused: Paths that were asked for without.
        blocked: What it answers to paths that end so, with the right password too.
    """

    def __init__(self, packages: Path, password: str) -> None:
        self.asked: list[str] = []
        self.refused: list[str] = []
        self.blocked: dict[str, int] = {}
        wanted = "Basic " + base64.b64encode(f"user:{password}".encode()).decode()
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.headers.get("Authorization") != wanted:
                    index.refused.append(self.path)
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="packages"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                index.asked.append(self.path)
                body = index.answer(packages, self.path)
                status = 404 if body is None else 200
                for end, answer in index.blocked.items():
                    if self.path.endswith(end):
                        body, status = None, answer
                self.send_response(status)
                kind = "text/html" if self.path.endswith("/") else "application/octet-stream"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://user:{password}@127.0.0.1:{self._server.server_address[1]}/simple/"

    @staticmethod
    def answer(packages: Path, path: str) -> bytes | None:
        name = path.rstrip("/").rpartition("/")[2]
        if not path.endswith("/"):
            return (packages / name).read_bytes() if (packages / name).is_file() else None
        found = sorted(one.name for one in packages.iterdir() if one.name.startswith(f"{name}-"))
        return "".join(f'<a href="/files/{one}">{one}</a>' for one in found).encode() or None

    @contextlib.contextmanager
    def serving(self) -> Iterator["Index"]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
