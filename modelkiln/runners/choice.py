"""Which runner executes the steps of a command."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from modelkiln.environments.environment import Environment
from modelkiln.environments.provisioner import Provisioner
from modelkiln.errors import EnvironmentFailure, UsageError
from modelkiln.runners import AUTO, NAMES
from modelkiln.runners.base import Offer, Runner, RunnerKind

RUNNERS: Mapping[str, RunnerKind] = {
    name: import_module(f"modelkiln.runners.{name}").RUNNER for name in NAMES
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The runner of a command.

    Attributes:
        name: In `RUNNERS`.
        why: Why it is this one; empty where the user said so.
        offer: How to make it, where that had to be found out to choose it.
    """

    name: str
    why: str = ""
    offer: Offer | None = None

    def __str__(self) -> str:
        return f"runner: {self.name} ({self.why})"


def check_name(text: str) -> str:
    """Return the name of a runner, or `auto`, as a command line gives it; UsageError for
    another.
    """
    if text != AUTO and text not in RUNNERS:
        raise UsageError(
            f"There is no runner {text!r}.",
            f"The runners are {AUTO}, {' and '.join(RUNNERS)}.",
            "Leave --runner out.",
        )
    return text


def simplest() -> str:
    """Return the runner that asks for the least: what a first try should take."""
    return next(iter(RUNNERS))


def contains_stages(wanted: str) -> bool:
    """Return whether what a stage does is sure to stay in a sandbox, whatever `auto` comes to."""
    return wanted != AUTO and RUNNERS[wanted].contains


def identities(
    provisioner: Provisioner, environment: str, wanted: str, chosen: str = ""
) -> Iterator[Mapping[str, Any]]:
    """Yield what an environment is, under each runner whose records count, the chosen one first.

    Args:
        wanted: What `--runner` says.
        chosen: What `auto` came to, if it is known yet.
    """
    one = provisioner.environment(environment)
    names = [wanted] if wanted != AUTO else sorted(RUNNERS, key=lambda name: name != chosen)
    for name in names:
        identity = RUNNERS[name].identify(provisioner, one, asked=wanted != AUTO)
        if identity is not None:
            yield identity


def choose(provisioner: Provisioner, wanted: str, environments: Iterable[str] = ()) -> Choice:
    """Choose the runner for steps in these environments; one that was named is not looked for.

    Args:
        wanted: What `--runner` says; `auto` takes the last of `RUNNERS` that can run them all.

    Raises:
        EnvironmentFailure: `auto` finds none.
    """
    if wanted != AUTO:
        return Choice(name=wanted)
    known = _known(provisioner, environments)
    obstacles: list[str] = []
    for name in reversed(list(RUNNERS)):
        try:
            offer = RUNNERS[name].offer(provisioner, known, asked=False)
        except EnvironmentFailure as error:
            obstacles.append(error.what.rstrip("."))
        else:
            return Choice(name=name, why="; ".join(obstacles) or offer.why, offer=offer)
    raise EnvironmentFailure(
        "No runner can run these steps here.", "; ".join(obstacles), "invoke doctor says more."
    )


def make_runner(provisioner: Provisioner, choice: Choice, environments: Iterable[str]) -> Runner:
    """Make the runner of a choice; its environments are made when it is told to get them ready.

    Raises:
        EnvironmentFailure: The runner that was asked for cannot run them.
    """
    offer = choice.offer
    if offer is None:
        known = _known(provisioner, environments)
        offer = RUNNERS[choice.name].offer(provisioner, known, asked=True)
    return offer.make()


def _known(provisioner: Provisioner, names: Iterable[str]) -> list[Environment]:
    return [provisioner.environment(name) for name in sorted(set(names))]
