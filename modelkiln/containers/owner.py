"""Which process a container belongs to, and the end of those whose process is gone.

A process is named by the machine's boot, its process namespace, its number and the time at which it
started: a number alone comes back. Containers of another namespace are left alone, for nothing can
be known of their processes from here.
"""

import os
from http import HTTPStatus
from pathlib import Path

import docker
import requests

from modelkiln.containers.engine import Engine, connect, explain

LABEL = "io.modelkiln.owner"


def this_process() -> str:
    """Return the name of the running process."""
    return _name(os.getpid(), _started(os.getpid()))


def is_alive(owner: str) -> bool:
    """Return whether a process of this name may still run."""
    boot, _, rest = owner.partition(":")
    here = _name(0, "").split(":")
    if boot != here[0]:
        # An earlier boot of this machine, or nothing of ours.
        return False
    space, _, process = rest.partition(":")
    if space != here[1]:
        return True
    pid, _, started = process.partition(":")
    return pid.isdecimal() and _started(int(pid)) == started != ""


def remove_orphans(engine: Engine) -> int:
    """Remove the containers whose process is gone; returns how many there were.

    Raises:
        EnvironmentFailure: The engine does not answer.
    """
    removed = 0
    try:
        for container in engine.client.api.containers(all=True, filters={"label": LABEL}):
            if not is_alive(str((container.get("Labels") or {}).get(LABEL, ""))):
                removed += _remove(engine, container["Id"])
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise explain(error, "looking for containers that were left behind") from error
    return removed


def open_engine() -> Engine:
    """Return the engine, after what dead commands left on it was removed; errors as `connect`."""
    engine = connect()
    remove_orphans(engine)
    return engine


def _remove(engine: Engine, container: str) -> int:
    try:
        engine.client.api.remove_container(container, force=True, v=True)
    except docker.errors.NotFound:
        return 0
    except docker.errors.APIError as error:
        # Another command is at it as well.
        if error.status_code != HTTPStatus.CONFLICT:
            raise
        return 0
    return 1


def _name(pid: int, started: str) -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    space = Path("/proc/self/ns/pid").stat().st_ino
    return f"{boot}:{space}:{pid}:{started}"


def _started(pid: int) -> str:
    """Return when a process started, in ticks since the boot; empty where there is none or it is
    dead.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The name, in brackets, may hold anything.
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]
