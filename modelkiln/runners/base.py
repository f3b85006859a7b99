"""What every runner has in common: the protocol that it serves, and what it reads from a stage."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modelkiln.environments.environment import Environment
from modelkiln.environments.provisioner import Provisioner
from modelkiln.errors import StageFailure
from modelkiln.util.console import OnProgress

if TYPE_CHECKING:
    from modelkiln.runners.job import Job, Outcome

GRACE_S = 5.0
STAGE_ARGUMENTS = ("-m", "exporters", "step.json")


class Runner(Protocol):
    """What executes a job in a scratch folder."""

    name: str

    def get_ready(self, environments: Iterable[str]) -> None:
        """Make sure of the environments that jobs will run in; KilnError where one fails."""
        ...

    def run(self, job: "Job", scratch: Path, on_progress: OnProgress) -> "Outcome":
        """Run a job to its end; KilnError where it fails."""
        ...

    def stop(self, *, kill: bool) -> None:
        """End every job: first politely, with `kill` at once."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A runner that can be made here.

    Attributes:
        why: What speaks for it, for the user.
        make: Makes it; its environments are made when it is told to get them ready.
    """

    why: str
    make: Callable[[], Runner]


class Identify(Protocol):
    """Tells what an environment is, without asking anything but files."""

    def __call__(
        self, provisioner: Provisioner, one: Environment, *, asked: bool
    ) -> Mapping[str, Any] | None:
        """Return the identity of an environment under this runner; it is part of the keys of its
        steps.

        Args:
            asked: Whether the user named the runner, so that an environment without an identity
                is an error; otherwise None is returned.
        """


class MakeOffer(Protocol):
    """Finds out whether a runner can be made here."""

    def __call__(
        self, provisioner: Provisioner, environments: Sequence[Environment], *, asked: bool
    ) -> Offer:
        """Offer a runner for these environments.

        Args:
            asked: Whether the user named the runner: then what it lacks is told where it is
                needed, and not looked for beforehand.

        Raises:
            EnvironmentFailure: It cannot run them.
        """


@dataclass(frozen=True, kw_only=True)
class RunnerKind:
    """What a module of this package says of its runner, for the table in `choice`.

    Attributes:
        contains: Whether what a stage does stays in its sandbox, so that a pickle needs no trust.
        identify: The identity of an environment under it.
        offer: Whether and how it can be made.
    """

    contains: bool
    identify: Identify
    offer: MakeOffer


def overdue_failure(job: "Job") -> StageFailure:
    """Return the error of a job that took longer than it may."""
    return StageFailure(
        f"{job.name}: the stage took longer than {job.timeout_s} s and was ended.",
        "It hangs, or this machine is much slower than expected.",
        "Raise timeout_s in catalog/stages.toml if the machine is just slow.",
    )


def read_progress(line: bytes, on_progress: OnProgress) -> None:
    """Tell what a line of a stage's standard output says of its progress, if it does."""
    with suppress(ValueError, AttributeError, TypeError):
        told = json.loads(line)
        share = told.get("progress")
        on_progress(None if share is None else float(share), str(told.get("message", "")))
