"""The local runner: each stage is a process of this machine, in an installed environment."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelkiln.environments.cache import find
from modelkiln.environments.environment import Environment, require_glibc
from modelkiln.environments.provisioner import Provisioner
from modelkiln.runners.base import Offer, Runner, RunnerKind


def identify(
    provisioner: Provisioner,  # noqa: ARG001 (every runner is asked in one way)
    one: Environment,
    *,
    asked: bool,  # noqa: ARG001
) -> Mapping[str, Any]:
    """Return the identity of an installed environment: lock, settings and interpreter."""
    return one.identity()


def offer(
    provisioner: Provisioner,
    environments: Sequence[Environment],
    *,
    asked: bool,  # noqa: ARG001
) -> Offer:
    """Offer it: it needs nothing but a C library that the packages run on.

    Raises:
        EnvironmentFailure: An environment is not installed and wants a newer one.
    """
    for one in environments:
        if find(one, provisioner.cache) is None:
            require_glibc(one)

    def make() -> Runner:
        from modelkiln.runners.processes import LocalRunner

        return LocalRunner(provisioner.python)

    return Offer(why="it needs no container engine", make=make)


RUNNER = RunnerKind(contains=False, identify=identify, offer=offer)
