"""Turns a root file system into a base image, loads it into engines and writes its pin.

    base_image.py [--image NAME] --tag TAG --epoch SECONDS ROOT.tar PINS HOST...

The image's id follows from the files, the name and the second alone, so it is the same each time
and on every engine. Standard library only: it runs before anything is installed.
"""

import argparse
import hashlib
import io
import json
import socket
import tarfile
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

IMAGE = "localhost/modelkiln-base"
VERSION = "/v1.41"
# As modelkiln names its own interpreter.
ASK = (
    "import os,sys;"
    "print(sys.implementation.name,'.'.join(map(str,sys.version_info[:3])),os.uname().machine,sep='-')"
)


class Engine:
    """An engine behind a Unix socket, spoken to in Docker's API."""

    def __init__(self, host: str) -> None:
        if not host.startswith("unix://"):
            raise SystemExit(f"base_image: {host} is not a Unix socket")
        self.host = host

    def call(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> bytes:
        """Sends one request; leaves the program with the engine's words where it fails."""
        connection = HTTPConnection("engine", timeout=300)
        try:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(300)
            connection.sock.connect(self.host.removeprefix("unix://"))
            headers = {"Content-Type": kind} if body is not None else {}
            if isinstance(body, io.BufferedReader):
                headers["Content-Length"] = str(Path(body.name).stat().st_size)
            connection.request(method, VERSION + path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
        except OSError as error:
            raise SystemExit(f"base_image: the engine at {self.host} fails: {error}") from error
        finally:
            connection.close()
        if answer.status >= 400:
            text = said.decode(errors="replace").strip()
            raise SystemExit(f"base_image: {self.host}: {method} {path}: {answer.status} {text}")
        return said

    def load(self, archive: Path, image: str) -> None:
        """Loads an archive; the image must have the expected id there."""
        with archive.open("rb") as body:
            said = self.call("POST", "/images/load?quiet=1", body, "application/x-tar")
        found = json.loads(self.call("GET", f"/images/{image.removeprefix('sha256:')}/json"))
        if found["Id"].removeprefix("sha256:") != image.removeprefix("sha256:"):
            text = said.decode(errors="replace")
            raise SystemExit(f"base_image: {self.host} has {found['Id']}, not {image}: {text}")

    def run(self, image: str, command: list[str]) -> str:
        """What a command says in a container of that image, without a network."""
        asked = {
            "Image": image,
            "Cmd": command,
            "Tty": True,
            "HostConfig": {"NetworkMode": "none", "ReadonlyRootfs": True},
        }
        container = json.loads(self.call("POST", "/containers/create", json.dumps(asked)))["Id"]
        try:
            self.call("POST", f"/containers/{container}/start")
            ended = json.loads(self.call("POST", f"/containers/{container}/wait"))
            said = self.call("GET", f"/containers/{container}/logs?stdout=1&stderr=1").decode()
        finally:
            self.call("DELETE", f"/containers/{container}?force=1&v=1")
        if ended["StatusCode"] != 0:
            raise SystemExit(f"base_image: the image does not work: {said.strip()}")
        return said.strip()


def pack(root: Path, name: str, archive: Path, epoch: int) -> str:
    """Writes an archive that `docker load` takes, and returns the image's id."""
    with root.open("rb") as file:
        layer = hashlib.file_digest(file, "sha256").hexdigest()
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": {
            "Env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG=C.UTF-8",
            ],
            "Cmd": ["python3"],
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        "history": [{"created": created, "created_by": "mmdebstrap"}],
    }
    text = json.dumps(config, sort_keys=True).encode()
    digest = hashlib.sha256(text).hexdigest()
    manifest = [{"Config": f"{digest}.json", "RepoTags": [name], "Layers": [f"{layer}.tar"]}]

    def member(path: str, size: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(path)
        info.size, info.mtime = size, epoch
        return info

    with tarfile.open(archive, "w") as tar, root.open("rb") as file:
        listing = json.dumps(manifest).encode()
        tar.addfile(member("manifest.json", len(listing)), io.BytesIO(listing))
        tar.addfile(member(f"{digest}.json", len(text)), io.BytesIO(text))
        tar.addfile(member(f"{layer}.tar", root.stat().st_size), file)
    return f"sha256:{digest}"


def write_pin(path: Path, image: str, tag: str, digest: str, interpreter: str) -> None:
    """Writes a file of pins with this base as `python`, the name that environments ask for."""
    values = {"image": image, "tag": tag, "digest": digest, "interpreter": interpreter}
    lines = ["# Made by .ci/base.sh: a base that lies on this machine alone.", "[bases.python]"]
    lines += [f'{name} = "{value}"' for name, value in values.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Packs, loads, tries and pins."""
    parser = argparse.ArgumentParser(description="Make a base image out of a root file system.")
    parser.add_argument("--image", default=IMAGE)
    parser.add_argument("--tag", required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("root", type=Path)
    parser.add_argument("pins", type=Path)
    parser.add_argument("host", nargs="+", type=Engine)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.root.parent) as folder:
        archive = Path(folder) / "image.tar"
        digest = pack(given.root, f"{given.image}:{given.tag}", archive, given.epoch)
        for engine in given.host:
            engine.load(archive, digest)
            print(f"base_image: {engine.host} has {given.image}:{given.tag}, {digest}")
    interpreter = given.host[0].run(digest, ["python3", "-c", ASK])
    write_pin(given.pins, given.image, given.tag, digest, interpreter)


if __name__ == "__main__":
    main()
