"""modelkiln.probes: what is found, and why not."""

import json
import socket
import threading
from pathlib import Path

import pytest

from modelkiln.probes import Probe, probe_command, probe_docker, probe_gpu


def test_probe_of_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not probe_gpu().found
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 570.1, 9.0'\n")
    program.chmod(0o755)
    assert probe_gpu() == Probe(found=True, detail="NVIDIA H200, 570.1, 9.0")
    program.write_text("#!/bin/sh\necho 'no driver' >&2\nexit 9\n")
    assert probe_command("nvidia-smi") == Probe(found=False, detail="nvidia-smi failed: no driver")


def test_probe_of_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    assert "no engine listens" in probe_docker().detail
    body = json.dumps({"Version": "20.10.24"}).encode()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)

        thread = threading.Thread(target=answer)
        thread.start()
        assert probe_docker() == Probe(found=True, detail="Docker engine 20.10.24")
        thread.join()
    assert "no engine answers" in probe_docker().detail
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    assert not probe_docker().found
