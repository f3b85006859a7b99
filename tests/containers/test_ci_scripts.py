"""The scripts of .ci/ with real engines: they start, stop, recover, and make the same base."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from modelkiln.containers.engine import Engine
from modelkiln.environments.base_images import load_base
from modelkiln.paths import REPOSITORY
from tests.containers.conftest import leave_out

CI = REPOSITORY / ".ci"
NEEDS = {"docker": ("dockerd", "containerd", "unshare"), "podman": ("podman", "runc")}
MADE = "localhost/modelkiln-base"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=600, check=False
    )


def processes_of(folder: Path) -> list[str]:
    """The command lines that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in text:
            found.append(text)
    return found


def start(kind: str, folder: Path) -> str:
    done = run(CI / "engine.sh", "start", kind, "--alone", "--dir", folder)
    assert done.returncode == 0, done.stderr
    name, _, host = done.stdout.strip().removeprefix("export ").partition("=")
    assert name == {"docker": "DOCKER_HOST", "podman": "MODELKILN_PODMAN"}[kind]
    assert host == f"unix://{folder}/engine.sock"
    return host


@pytest.fixture(params=["docker", "podman"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of engine that can be started here."""
    found: str = request.param
    missing = [one for one in NEEDS[found] if not shutil.which(one)]
    if os.getuid() != 0 or missing:
        leave_out(f"{found} cannot be started: {', '.join(missing) or 'this is not root'}")
    return found


@pytest.fixture
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for an engine; whatever a test leaves running is stopped."""
    path = tmp_path_factory.mktemp("e", numbered=True) / "e"
    yield path
    run(CI / "engine.sh", "stop", kind, "--dir", path)
    assert processes_of(path) == []
    assert str(path) not in Path("/proc/mounts").read_text()
    assert not path.exists()


def test_an_engine_starts_once_and_stops(kind: str, folder: Path) -> None:
    host = start(kind, folder)
    client = docker.DockerClient(base_url=host, version="auto")
    assert client.ping()
    pid = (folder / "pid").read_text()
    assert start(kind, folder) == host
    assert (folder / "pid").read_text() == pid
    assert run(CI / "engine.sh", "status", kind, "--dir", folder).returncode == 0
    client.close()
    assert run(CI / "engine.sh", "stop", kind, "--dir", folder).returncode == 0
    assert run(CI / "engine.sh", "status", kind, "--dir", folder).returncode == 3
    assert processes_of(folder) == []


def test_an_engine_that_was_killed_starts_again(kind: str, folder: Path) -> None:
    host = start(kind, folder)
    pid = int((folder / "pid").read_text())
    os.kill(pid, signal.SIGKILL)
    assert start(kind, folder) == host
    assert int((folder / "pid").read_text()) != pid
    client = docker.DockerClient(base_url=host, version="auto")
    assert client.ping()
    client.close()


@pytest.fixture(scope="module")
def pins(docker_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(docker_engine, tmp_path_factory.mktemp("pins") / "pins.toml")


def make_base(engine: Engine, pins: Path) -> Path:
    if not shutil.which("mmdebstrap"):
        leave_out("mmdebstrap is not installed")
    done = run(CI / "base.sh", "--engine", engine.host, pins)
    assert done.returncode == 0, done.stderr
    return pins


def test_a_base_is_the_same_each_time(docker_engine: Engine, pins: Path, tmp_path: Path) -> None:
    """Against one state of Debian's archive; the base in use may come from an earlier one."""
    first, other = load_base("python", {"MODELKILN_PINS": str(pins)}), load_base()
    if other != first:
        again = make_base(docker_engine, tmp_path / "again.toml")
        other = load_base("python", {"MODELKILN_PINS": str(again)})
    assert first.image == MADE
    assert first == other


def test_a_base_holds_what_environments_need(docker_engine: Engine, pins: Path) -> None:
    base = load_base("python", {"MODELKILN_PINS": str(pins)})
    image = docker_engine.client.images.get(f"{base.image}:{base.tag}")
    assert image.id == base.digest
    script = (
        "set -e; python -m venv /tmp/v; /tmp/v/bin/python -c 'import ssl, sqlite3, ctypes';"
        "ls /usr/lib/x86_64-linux-gnu/libstdc++.so.6 /usr/lib/x86_64-linux-gnu/libgomp.so.1"
    )
    docker_engine.client.containers.run(
        image, ["sh", "-c", script], network_mode="none", remove=True
    )


def test_engines_agree_on_an_image(engine: Engine, tmp_path: Path) -> None:
    """The id follows from the files, so one pin does for both; load() compares it."""
    (tmp_path / "file").write_text("content")
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(tmp_path / "file", "file")
    name = "localhost/modelkiln-test-archive:tiny"
    code = (
        "import base_image, pathlib, sys\n"
        "root, archive, host, name = sys.argv[1:]\n"
        "digest = base_image.pack(pathlib.Path(root), name, pathlib.Path(archive), 1)\n"
        "base_image.Engine(host).load(pathlib.Path(archive), digest)\n"
        "print(digest)\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-B",
            "-c",
            code,
            tmp_path / "root.tar",
            tmp_path / "a",
            engine.host,
            name,
        ],
        env={**os.environ, "PYTHONPATH": str(CI)},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        assert done.returncode == 0, done.stderr
        found = engine.client.images.get(name)
        assert str(found.id).removeprefix("sha256:") == done.stdout.strip().removeprefix("sha256:")
    finally:
        engine.client.images.remove(name, force=True)
