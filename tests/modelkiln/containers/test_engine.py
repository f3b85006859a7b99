"""Which engine is used and which are refused, against a socket that answers as an engine would."""

import gc
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from modelkiln.containers.engine import connect, explain, find_host
from modelkiln.errors import EnvironmentFailure, KilnError, OutOfSpace

VERSION = {"ApiVersion": "1.43", "MinAPIVersion": "1.12", "Version": "24.0.7", "Components": []}
INFO = {"NCPU": 8, "DockerRootDir": "/var/lib/docker", "SecurityOptions": ["name=seccomp"]}


class FakeEngine(ThreadingUnixStreamServer):
    """Answers /version and /info, and has nothing else; remembers what it was asked."""

    daemon_threads = True

    def __init__(self, path: Path, version: dict[str, Any], info: dict[str, Any]) -> None:
        self.answers = {"version": version, "info": info}
        self.asked: list[str] = []
        super().__init__(str(path), Handler)


class Handler(BaseHTTPRequestHandler):
    server: FakeEngine

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path.rpartition("/")[2])
        body = json.dumps(answer or {"message": "No such image"}).encode()
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def answering(
    path: Path, version: dict[str, Any] | None = None, info: dict[str, Any] | None = None
) -> Iterator[FakeEngine]:
    with FakeEngine(path, {**VERSION, **(version or {})}, {**INFO, **(info or {})}) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def refused(host: str) -> EnvironmentFailure:
    with pytest.raises(EnvironmentFailure) as caught:
        connect({"DOCKER_HOST": host})
    assert caught.value.why and caught.value.next
    assert caught.value.exit_code == 4
    return caught.value


def test_an_engine_is_known_by_what_it_says(tmp_path: Path) -> None:
    with answering(tmp_path / "s"):
        engine = connect({"DOCKER_HOST": f"unix://{tmp_path}/s"})
        engine.client.close()
    assert (engine.kind, engine.version, engine.cpus) == ("docker", "24.0.7", 8)
    assert engine.socket == tmp_path / "s"


@pytest.mark.parametrize("info", [{"Rootless": True}, {"SecurityOptions": ["name=rootless"]}])
def test_podman_is_told_from_docker(tmp_path: Path, info: dict[str, Any]) -> None:
    version = {"Components": [{"Name": "Podman Engine"}], "ApiVersion": "1.41"}
    with answering(tmp_path / "s", version, info):
        engine = connect({"DOCKER_HOST": f"unix://{tmp_path}/s"})
        engine.client.close()
    assert (engine.kind, engine.rootless) == ("podman", True)


@pytest.mark.parametrize("api", ["1.40", "1.24", "1.9"])
def test_an_old_engine_is_refused(tmp_path: Path, api: str) -> None:
    with answering(tmp_path / "s", {"ApiVersion": api, "Version": "19.03"}):
        error = refused(f"unix://{tmp_path}/s")
    assert "too old" in error.what
    assert "20.10" in error.why
    assert "--runner local" in error.next


@pytest.mark.parametrize("option", ["name=rootless", "name=userns"])
def test_a_docker_engine_that_maps_users_is_refused(tmp_path: Path, option: str) -> None:
    with answering(tmp_path / "s", info={"SecurityOptions": [option]}):
        assert "maps users" in refused(f"unix://{tmp_path}/s").why


@pytest.mark.parametrize("host", ["tcp://10.0.0.5:2375", "ssh://me@there", "http://x", "npipe://x"])
def test_a_remote_engine_is_refused_with_the_reason(host: str) -> None:
    error = refused(host)
    assert host in error.what
    assert "not on this machine" in error.why


def test_a_missing_engine_is_told(tmp_path: Path) -> None:
    assert "listens on" in refused(f"unix://{tmp_path}/nothing").what


# Docker's library leaves a socket that it could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_dead_socket_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s"))
    assert "does not answer" in refused(f"unix://{tmp_path}/s").what
    gc.collect()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become someone without permission")
def test_a_socket_without_permission_is_told(tmp_path: Path) -> None:
    with answering(tmp_path / "s"):
        (tmp_path / "s").chmod(0o600)
        error = as_nobody(lambda: refused(f"unix://{tmp_path}/s"), tmp_path)
    assert "may not be used" in error
    assert "usermod -aG docker" in error


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become someone without permission")
def test_a_socket_in_a_closed_folder_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    error = as_nobody(lambda: refused(f"unix://{closed}/s"), tmp_path)
    assert "may not be used" in error


def as_nobody(action: Callable[[], KilnError], folder: Path) -> str:
    """What an action gives in a process without rights."""
    for parent in (folder, *folder.parents[:3]):
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setresuid(65534, 65534, 65534)
            os.write(write, str(action()).encode())
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        text = told.read()
    os.waitpid(child, 0)
    return text


def test_the_address_is_dockers_own_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert find_host({"DOCKER_HOST": "unix:///one"}) == "unix:///one"
    assert find_host({}) == "unix:///var/run/docker.sock"
    (tmp_path / "config.json").write_text('{"currentContext": "gone"}')
    assert find_host({}) == "unix:///var/run/docker.sock"


@pytest.mark.parametrize(
    ("said", "kind", "what"),
    [
        ("write /x: no space left on device", OutOfSpace, "disk is full"),
        (
            'could not select device driver "" with capabilities: [[gpu]]',
            EnvironmentFailure,
            "no GPU",
        ),
        ("Unknown runtime specified nvidia", EnvironmentFailure, "no GPU"),
        (
            'invalid mount config for type "bind": bind source path does not exist: /x',
            EnvironmentFailure,
            "does not see this machine's files",
        ),
        ("No such image: x", EnvironmentFailure, "image is gone"),
        (
            "client version 1.41 is too old. Minimum supported API version is 1.44",
            EnvironmentFailure,
            "newer than the library",
        ),
        ("something else", EnvironmentFailure, "failed while trying"),
    ],
)
def test_what_an_engine_says_is_told_in_our_words(
    said: str, kind: type[KilnError], what: str
) -> None:
    import docker

    error = explain(docker.errors.APIError("500 Server Error", explanation=said), "trying")
    assert type(error) is kind
    assert what in error.what
    assert error.why and error.next
