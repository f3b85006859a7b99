"""The trial of a new image: its self-test, run in it before it gets its name."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import docker
import requests
from docker.types import Mount

from modelkiln.containers.engine import Engine
from modelkiln.containers.sealing import PYTHON, create_sealed
from modelkiln.environments.environment import Environment
from modelkiln.environments.install import LIST_VERSIONS
from modelkiln.environments.lockfile import compare_versions, parse_versions
from modelkiln.errors import EnvironmentFailure

_SELFTEST = "/modelkiln/selftest.py"
_MEMORY = 8_000_000_000
_LONGEST_S = 600


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
    """Return what the image's Python says, in a container without anything else."""
    container = create_sealed(
        engine,
        image,
        [PYTHON, *arguments],
        mounts=mounts,
        # The image's own: what it holds has to be readable by anybody.
        user=None,
        memory=_MEMORY,
        cpus=engine.cpus,
        log=True,
    )
    try:
        container.start()
        try:
            status = int(container.wait(timeout=_LONGEST_S)["StatusCode"])
        except requests.RequestException as error:
            container.reload()
            if container.status != "running":
                raise
            raise EnvironmentFailure(
                failed,
                f"It did not end within {_LONGEST_S} s.",
                "It hangs, or this machine is much slower than expected; run the command again.",
            ) from error
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
