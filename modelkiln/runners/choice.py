"""Which runner executes steps, and how it is made."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from modelkiln.errors import EnvironmentFailure, UsageError

if TYPE_CHECKING:
    from modelkiln.building.kiln import Kiln
    from modelkiln.containers.engine import Engine
    from modelkiln.environments.environment import Environment
    from modelkiln.runners.base import Runner


class RunnerName(StrEnum):
    """What `--runner` may say."""

    AUTO = "auto"
    DOCKER = "docker"
    LOCAL = "local"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The runner of a command.

    Attributes:
        why: Why it is this one; empty where the user said so.
        engine: The engine of the Docker runner.
    """

    name: RunnerName
    why: str = ""
    engine: "Engine | None" = None

    def __str__(self) -> str:
        return f"runner: {self.name} ({self.why})"


def parse_runner(text: str) -> RunnerName:
    """The runner that a command line names; UsageError where it is none."""
    try:
        return RunnerName(text)
    except ValueError:
        raise UsageError(
            f"There is no runner {text!r}.",
            "The runners are auto, docker and local.",
            "Leave --runner out.",
        ) from None


def choose(kiln: "Kiln", names: Iterable[str]) -> Choice:
    """The runner for steps in these environments.

    `auto` takes Docker where an engine answers and their images are there or can be built.

    Raises:
        EnvironmentFailure: `docker` was asked for, and there is no engine or no image.
    """
    wanted = kiln.runner_name
    if wanted is RunnerName.LOCAL:
        return Choice(name=RunnerName.LOCAL)
    from modelkiln.containers.owner import open_engine

    environments = {name: kiln.environment(name) for name in sorted(set(names))}
    if wanted is RunnerName.DOCKER:
        for one in environments.values():
            require_dockerfile(one)
        return Choice(name=RunnerName.DOCKER, engine=open_engine())
    for one in environments.values():
        if not one.dockerfile.is_file():
            return Choice(name=RunnerName.LOCAL, why=f"{one.name} has no Dockerfile")
    try:
        engine = open_engine()
    except EnvironmentFailure as error:
        return Choice(name=RunnerName.LOCAL, why=error.what.rstrip("."))
    return _choose_by_images(kiln, engine, environments)


def _choose_by_images(
    kiln: "Kiln", engine: "Engine", environments: "Mapping[str, Environment]"
) -> Choice:
    from modelkiln.containers.images import find_obstacle

    for one in environments.values():
        obstacle = find_obstacle(
            engine, one, kiln.base(one), cache=kiln.cache, offline=kiln.options.offline
        )
        if obstacle:
            return Choice(name=RunnerName.LOCAL, why=f"{engine} answers, but {obstacle}")
    return Choice(name=RunnerName.DOCKER, why=f"{engine} answers", engine=engine)


def make_runner(kiln: "Kiln", choice: Choice) -> "Runner":
    """The runner of a choice; its environments are made when it is told to get them ready."""
    from modelkiln.runners.provision import get_image, get_python

    if choice.engine is None:
        from modelkiln.runners.local import LocalRunner

        return LocalRunner(lambda name: get_python(kiln, name))
    from modelkiln.runners.docker import DockerRunner

    engine = choice.engine
    return DockerRunner(engine, lambda name: get_image(kiln, engine, name))


def require_dockerfile(one: "Environment") -> None:
    """EnvironmentFailure where an environment has no image."""
    if not one.dockerfile.is_file():
        raise EnvironmentFailure(
            f"The environment {one.name} cannot be had as an image.",
            f"There is no {one.dockerfile}.",
            "Build with --runner local, or add a Dockerfile beside its lock.",
        )
