"""The Docker runner: each stage is a sealed container of its environment's image."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelkiln.environments.environment import Environment, require_dockerfile
from modelkiln.environments.provisioner import Provisioner
from modelkiln.errors import EnvironmentFailure
from modelkiln.runners.base import Offer, Runner, RunnerKind
from modelkiln.util.console import show_progress


def identify(
    provisioner: Provisioner, one: Environment, *, asked: bool
) -> Mapping[str, Any] | None:
    """Return the identity of an environment's image: Dockerfile, base, lock and settings.

    Raises:
        EnvironmentFailure: It has no Dockerfile, and the user asked for this runner.
        PinError: Its base is not pinned.
    """
    if not asked and not one.dockerfile.is_file():
        return None
    require_dockerfile(one)
    return provisioner.image_identity(one)


def offer(provisioner: Provisioner, environments: Sequence[Environment], *, asked: bool) -> Offer:
    """Offer it where an engine answers and every environment has an image or can get one.

    Raises:
        EnvironmentFailure: One cannot, or there is no engine.
    """
    for one in environments:
        if not asked and not one.dockerfile.is_file():
            raise EnvironmentFailure(f"{one.name} has no Dockerfile.")
        require_dockerfile(one)
    from modelkiln.containers.images import ensure_image, find_obstacle
    from modelkiln.containers.owner import open_engine

    engine = open_engine()
    cache, offline = provisioner.cache, provisioner.offline
    for one in environments if not asked else ():
        base = provisioner.base(one)
        if obstacle := find_obstacle(engine, one, base, cache=cache, offline=offline):
            raise EnvironmentFailure(f"{engine} answers, but {obstacle}.")

    def get_image(name: str) -> str:
        wanted = provisioner.environment(name)
        with show_progress(f"image {name}") as on_progress:
            return ensure_image(
                engine,
                wanted,
                provisioner.base(wanted),
                cache=cache,
                offline=offline,
                on_progress=on_progress,
            ).id

    def make() -> Runner:
        from modelkiln.runners.containers import DockerRunner

        return DockerRunner(engine, get_image)

    return Offer(why=f"{engine} answers", make=make)


RUNNER = RunnerKind(contains=True, identify=identify, offer=offer)
