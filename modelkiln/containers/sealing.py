"""How a sealed container is asked for: what every stage and every trial of an image gets."""

from collections.abc import Mapping, Sequence
from typing import Any

from docker.models.containers import Container
from docker.types import DeviceRequest, Mount

from modelkiln.containers.engine import Engine
from modelkiln.containers.owner import LABEL, this_process

# Where an image has its Python.
PYTHON = "/opt/venv/bin/python"
PIDS = 512
TEMPORARY_BYTES = 2_000_000_000


def create_sealed(
    engine: Engine,
    image: str,
    entrypoint: Sequence[str],
    *,
    mounts: Sequence[Mount],
    user: tuple[int, int] | None,
    memory: int,
    cpus: int,
    gpu: bool = False,
    folder: str = "/tmp",
    labels: Mapping[str, str] | None = None,
    log: bool = False,
) -> Container:
    """Make a container without a network, rights or files but its mounts; it is not started.

    Args:
        image: Its id.
        user: Numbers of user and group; the image's own where None.
        memory: The most that it may take, in bytes.
        folder: The one it starts in.
        log: Whether the engine keeps what it says.

    Raises:
        DockerException, RequestException: As Docker's library has it.
    """
    api = engine.client.api
    host: dict[str, Any] = api.create_host_config(
        mounts=list(mounts),
        tmpfs={"/tmp": f"size={TEMPORARY_BYTES},mode=1777,nosuid,nodev,noexec"},
        # Podman ignores that a network is disabled, and not that there is to be none.
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges", *(["label=disable"] if engine.selinux else [])],
        pids_limit=PIDS,
        mem_limit=memory,
        memswap_limit=memory,
        nano_cpus=min(cpus, engine.cpus) * 1_000_000_000,
        init=True,
        device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])] if gpu else None,
    )
    if not log:
        host["LogConfig"] = {"Type": "none", "Config": {}}
    if engine.rootless:
        # Docker's library knows none of Podman's modes.
        host["UsernsMode"] = "keep-id"
    made = api.create_container(
        image,
        entrypoint=list(entrypoint),
        command=[],
        user=f"{user[0]}:{user[1]}" if user else None,
        working_dir=folder,
        environment={"HOME": "/tmp"},
        labels={LABEL: this_process(), **(labels or {})},
        host_config=host,
    )
    return engine.client.containers.get(made["Id"])
