"""The trial of a new image: its self-test, run in it before it gets its name."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import docker
import requests
from docker.types import Mount

from modelkiln.containers.engine import Engine
from modelkiln.containers.owner import LABEL as OWNER_LABEL
from modelkiln.containers.owner import this_process
from modelkiln.environments import Environment
from modelkiln.errors import EnvironmentFailure
from modelkiln.installation import LIST_VERSIONS, compare_versions, parse_versions

PYTHON = "/opt/venv/bin/python"
_SELFTEST = "/modelkiln/selftest.py"


def try_image(engine: Engine, image: str, environment: Environment, folder: Path) -> None:
    """Make sure that an image holds the packages of its lock, and that these work in a container.

    Args:
        image: Its id.
        folder: Takes a copy of the self-test, which the container sees.

    Raises:
        PinError: It holds other packages.
        EnvironmentFailure: It fails its self-test.
    """
    failed = f"The {environment.name} image fails its self-test."
    said = _call(engine, image, ["-I", "-c", LIST_VERSIONS], [], failed)
    compare_versions(parse_versions(said), environment.lock)
    with tempfile.TemporaryDirectory(prefix=".trial-", dir=folder) as place:
        # The container's user may read nothing of the caller's folders.
        copied = Path(place) / "selftest.py"
        shutil.copyfile(environment.selftest, copied)
        copied.chmod(0o644)
        mount = Mount(target=_SELFTEST, source=str(copied.resolve()), type="bind", read_only=True)
        _call(engine, image, ["-I", _SELFTEST], [mount], failed)


def _call(
    engine: Engine, image: str, arguments: list[str], mounts: list[Mount], failed: str
) -> str:
    """What the image's Python says, in a container without anything else."""
    security = ["no-new-privileges", *(["label=disable"] if engine.selinux else [])]
    container = engine.client.containers.create(
        image,
        entrypoint=[PYTHON, *arguments],
        command=[],
        mounts=mounts,
        environment={"HOME": "/tmp"},
        tmpfs={"/tmp": "size=2000000000,mode=1777"},
        working_dir="/tmp",
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=security,
        pids_limit=512,
        labels={OWNER_LABEL: this_process()},
    )
    try:
        container.start()
        status = int(container.wait(timeout=600)["StatusCode"])
        if status:
            said = container.logs(stdout=True, stderr=True).decode("utf-8", "replace").strip()
            raise EnvironmentFailure(
                failed,
                "\n".join(said.splitlines()[-8:]) or f"It ended with {status}.",
                "Its Dockerfile is not right for its lock; invoke doctor looks at the rest.",
            )
        return container.logs(stdout=True, stderr=False).decode("utf-8", "replace")
    finally:
        with suppress(docker.errors.DockerException, requests.RequestException):
            container.remove(force=True, v=True)
