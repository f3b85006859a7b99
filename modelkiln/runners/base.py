"""What every runner has in common: the protocol that it serves, and what it reads from a stage."""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from modelkiln.errors import StageFailure
from modelkiln.runners.job import Job, Outcome

GRACE_S = 5.0
STAGE_ARGUMENTS = ("-m", "exporters", "step.json")
OnProgress = Callable[[float | None, str], None]


class Runner(Protocol):
    """What executes a job in a scratch folder."""

    name: str

    def get_ready(self, environments: Iterable[str]) -> None:
        """Make sure of the environments that jobs will run in; KilnError where one fails."""
        ...

    def run(self, job: Job, scratch: Path, on_progress: OnProgress) -> Outcome:
        """Run a job to its end; KilnError where it fails."""
        ...

    def stop(self, *, kill: bool) -> None:
        """End every job: first politely, with `kill` at once."""


def overdue_failure(job: Job) -> StageFailure:
    """The error of a job that took longer than it may."""
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
