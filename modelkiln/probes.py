"""Looks for things outside of Python, for doctor: programs, a Docker engine, a GPU."""

import http.client
import json
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a look at something outside of Python found.

    Args:
        found: Whether it is there and usable.
        detail: The version when found, else the reason, in a few words.
    """

    found: bool
    detail: str


def probe_docker() -> Probe:
    """Whether a Docker engine answers on ``$DOCKER_HOST`` or the default socket."""
    host = os.environ.get("DOCKER_HOST", "") or "unix:///var/run/docker.sock"
    if not host.startswith("unix://"):
        return Probe(found=False, detail=f"DOCKER_HOST={host} is not a Unix socket")
    path = host.removeprefix("unix://")
    if not Path(path).exists():
        return Probe(found=False, detail=f"no engine listens on {path}")
    connection = http.client.HTTPConnection("localhost")
    with socket.socket(socket.AF_UNIX) as engine:
        engine.settimeout(3)
        try:
            engine.connect(path)
            connection.sock = engine
            connection.request("GET", "/version")
            version = json.loads(connection.getresponse().read())["Version"]
        except PermissionError:
            return Probe(found=False, detail=f"no permission to use {path}")
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return Probe(found=False, detail=f"no engine answers on {path}")
    return Probe(found=True, detail=f"Docker engine {version}")


def probe_gpu() -> Probe:
    """The NVIDIA GPUs and their driver, as nvidia-smi names them."""
    return probe_command(
        "nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"
    )


def probe_command(name: str, *arguments: str) -> Probe:
    """Runs a program that should print what it is, and takes the first line of its output."""
    program = shutil.which(name)
    if not program:
        return Probe(found=False, detail=f"{name} is not installed")
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Probe(found=False, detail=f"{name} does not answer")
    lines = (done.stdout + done.stderr).strip().splitlines() or [""]
    if done.returncode != 0:
        return Probe(found=False, detail=f"{name} failed: {lines[-1].strip()}".rstrip(": "))
    return Probe(found=True, detail=lines[0].strip())
