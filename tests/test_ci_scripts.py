"""The scripts of .ci/: sound as scripts, and what they do where no engine is needed."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelkiln.environments.base_images import load_base

CI = Path(__file__).resolve().parent.parent / ".ci"
SCRIPTS = sorted(path for path in CI.iterdir() if path.read_bytes().startswith(b"#!"))
ENGINE, BASE, PACK = CI / "engine.sh", CI / "base.sh", CI / "base_image.py"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK"


def run(*words: object, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def listening(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """A socket that gives every caller the same answer; the calls are noted."""
    calls: list[bytes] = []
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while True:
            try:
                caller, _ = server.accept()
            except OSError:
                return
            with caller:
                calls.append(_read_request(caller))
                caller.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield calls
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def _read_request(caller: socket.socket) -> bytes:
    """All of a request: a caller whose body nobody reads sees a broken pipe, not the answer."""
    text = b""
    while b"\r\n\r\n" not in text:
        text += caller.recv(65536)
    head, _, body = text.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    left = int(length[1]) - len(body) if length else 0
    while left > 0:
        left -= len(caller.recv(65536))
    return head


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_sound(path: Path) -> None:
    assert os.access(path, os.X_OK)
    done = run("bash", "-n", path)
    assert done.returncode == 0, done.stderr
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = run("shellcheck", path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_stops_at_its_first_failure(path: Path) -> None:
    assert "set -euo pipefail" in path.read_text().splitlines()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (ENGINE, []),
        (ENGINE, ["restart"]),
        (ENGINE, ["start", "containerd"]),
        (ENGINE, ["start", "--dir"]),
        (BASE, []),
        (BASE, ["--engine"]),
        (BASE, ["one.toml", "two.toml"]),
        (BASE, ["--help"]),
    ],
)
def test_wrong_words_are_answered_with_the_usage(script: Path, words: list[str]) -> None:
    done = run(script, *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert f".ci/{script.name}" in done.stderr
    assert "set -" not in done.stderr


@pytest.mark.parametrize("broken", ["docker", "podman"])
def test_a_run_fails_where_an_engine_cannot_be_started(tmp_path: Path, broken: str) -> None:
    """With programs that do nothing but say that they were called."""
    (tmp_path / "web").mkdir()
    for folder, names in (
        ("bin", ("git", "make", "node", "npm", "strace", "shellcheck", "apt-get")),
        (".ci", ("engine.sh", "base.sh")),
    ):
        (tmp_path / folder).mkdir()
        for name in names:
            path = tmp_path / folder / name
            path.write_text(
                f'#!/bin/sh\necho "{name} $*" >>"{tmp_path}/called"\n'
                f'[ "$1 $2" != "start {broken}" ] || {{ echo the reason >&2; exit 4; }}\n'
            )
            path.chmod(0o755)
    shutil.copy(CI / "run", tmp_path / ".ci")
    done = run(tmp_path / ".ci" / "run", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert f"the reason\n\nrun: {broken.capitalize()} could not be started" in done.stderr
    called = (tmp_path / "called").read_text().splitlines()
    assert "make quickstart" in called and "make test" not in called
    assert [line.split()[:2] for line in called[-2:]] == [["engine.sh", "stop"]] * 2


def test_an_engine_that_answers_is_used(tmp_path: Path) -> None:
    """And left alone: nothing is started, so nothing is there to be stopped."""
    with listening(tmp_path / "s", ANSWER) as calls:
        host = f"unix://{tmp_path / 's'}"
        folder = tmp_path / "engine"
        done = run(ENGINE, "start", "--dir", folder, DOCKER_HOST=host)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"export DOCKER_HOST={host}\n"
        assert calls and calls[0].startswith(b"GET /_ping ")
        assert not folder.exists()
        assert run(ENGINE, "status", "--dir", folder, DOCKER_HOST=host).returncode == 3
        done = run(ENGINE, "stop", "--dir", folder, DOCKER_HOST=host)
        assert (done.returncode, done.stdout) == (0, "")
        assert (tmp_path / "s").exists()


def test_a_number_that_another_process_has_is_not_stopped(tmp_path: Path) -> None:
    """The file of an engine that is long gone may name a process that is not it."""
    folder = tmp_path / "engine"
    folder.mkdir()
    other = subprocess.Popen(["sleep", "60"])
    try:
        (folder / "pid").write_text(f"{other.pid}\n")
        assert run(ENGINE, "status", "--dir", folder).returncode == 3
        assert run(ENGINE, "stop", "--dir", folder).returncode == 0
        assert other.poll() is None
        assert not folder.exists()
    finally:
        other.kill()
        other.wait()


def test_a_socket_that_would_not_fit_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    done = run(ENGINE, "start", "podman", "--dir", folder)
    assert done.returncode == 4
    assert "too long" in done.stderr
    assert not folder.exists()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The archive of a small root file system."""
    (tmp_path / "file").write_text("content")
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(tmp_path / "file", "file")
    return tmp_path / "root.tar"


def pack(root: Path, archive: Path, epoch: int = 1_700_000_000) -> str:
    code = (
        f"import sys; sys.path.insert(0, {str(CI)!r}); import base_image, pathlib; "
        f"print(base_image.pack(pathlib.Path({str(root)!r}), 'localhost/x:y', "
        f"pathlib.Path({str(archive)!r}), {epoch}))"
    )
    done = run(sys.executable, "-B", "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_archive_is_the_same_each_time(root: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "first.tar", tmp_path / "again.tar"
    digest = pack(root, first)
    assert pack(root, again) == digest
    assert first.read_bytes() == again.read_bytes()
    assert pack(root, again, 1_700_000_001) != digest


def test_an_archive_names_its_files_by_their_digests(root: Path, tmp_path: Path) -> None:
    digest = pack(root, tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as tar:
        members = {one.name: tar.extractfile(one) for one in tar}
        read = {name: file.read() for name, file in members.items() if file}
    (manifest,) = json.loads(read["manifest.json"])
    config = read[manifest["Config"]]
    assert digest == "sha256:" + hashlib.sha256(config).hexdigest()
    assert manifest["RepoTags"] == ["localhost/x:y"]
    layer = read[manifest["Layers"][0]]
    assert layer == root.read_bytes()
    diff = "sha256:" + hashlib.sha256(layer).hexdigest()
    assert json.loads(config)["rootfs"]["diff_ids"] == [diff]


def test_a_pin_is_one_that_modelkiln_reads(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "pins.toml"
    digest = "sha256:" + "ab" * 32
    code = (
        f"import sys; sys.path.insert(0, {str(CI)!r}); import base_image, pathlib; "
        f"base_image.write_pin(pathlib.Path({str(path)!r}), base_image.IMAGE, 'bookworm', "
        f"{digest!r}, 'cpython-3.11.2-x86_64')"
    )
    done = run(sys.executable, "-B", "-c", code)
    assert done.returncode == 0, done.stderr
    found = load_base("python", {"MODELKILN_PINS": str(path)})
    assert found.reference == f"localhost/modelkiln-base:bookworm@{digest}"
    assert found.interpreter == "cpython-3.11.2-x86_64"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"HTTP/1.1 500 No\r\nContent-Length: 9\r\nConnection: close\r\n\r\nno room\r\n",
            "no room",
        ),
        (
            b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\nConnection: close\r\n\r\n{"Id": "sha256"}',
            "has sha256, not",
        ),
    ],
)
def test_an_engine_that_does_not_take_the_image_is_an_error(
    root: Path, tmp_path: Path, answer: bytes, said: str
) -> None:
    with listening(tmp_path / "s", answer):
        host = f"unix://{tmp_path / 's'}"
        words = ["--tag", "x", "--epoch", "1", root, tmp_path / "pins.toml", host]
        done = run(sys.executable, PACK, *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / "pins.toml").exists()


def test_no_engine_is_an_error(root: Path, tmp_path: Path) -> None:
    for host in (f"unix://{tmp_path / 'none'}", "tcp://127.0.0.1:1"):
        done = run(
            sys.executable, PACK, "--tag", "x", "--epoch", "1", root, tmp_path / "pins.toml", host
        )
        assert done.returncode == 1
        assert host in done.stderr
        assert not (tmp_path / "pins.toml").exists()
