"""The plan: the steps that a set of targets needs, as pure data."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from modelkiln.catalog.target import Target

PROTOCOL = 1


@dataclass(frozen=True, kw_only=True)
class StepOutput:
    """An input that another step of the plan makes."""

    step: str
    name: str


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """An input that lies in the repository or the catalog."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class PinnedFile:
    """An input whose digest is known before the file is there: a checkpoint."""

    sha256: str
    bytes: int
    model: str
    path: str | None = None


Input = StepOutput | SourceFile | PinnedFile


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage with its inputs and parameters filled in.

    Attributes:
        id: Readable and unique in a plan.
        modules: The stage's module, then the family's part of it.
        memory: Bytes that the scheduler sets aside.
        disk: Bytes that its scratch folder and its outputs take, about.
        key: What of the machine its bytes depend on, such as `cpu`; see `keys`.
        unpromised: The outputs that may have other bytes each time it runs.
    """

    id: str
    stage: str
    environment: str
    modules: tuple[str, ...]
    params: Mapping[str, Any]
    inputs: Mapping[str, Input]
    cpus: int
    memory: int
    disk: int
    timeout_s: int
    key: tuple[str, ...] = ()
    unpromised: frozenset[str] = frozenset()

    @property
    def gpu(self) -> bool:
        """Whether it needs a GPU."""
        return "gpu" in self.key

    @property
    def needs(self) -> list[str]:
        """The steps that go before, each once, in the order of the inputs."""
        steps = (one.step for one in self.inputs.values() if isinstance(one, StepOutput))
        return list(dict.fromkeys(steps))


class TargetStatus(StrEnum):
    """What may be said of a target that passed its last check.

    An engine that no GPU ran is built, never verified.
    """

    BUILT = "built"
    VERIFIED = "verified"


@dataclass(frozen=True, kw_only=True)
class TargetPlan:
    """Where a target's files come from, what checks them last, and what may be said of them
    then.
    """

    target: Target
    graphs: str
    verify: str
    status: TargetStatus = TargetStatus.BUILT


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps in an order in which each comes after what it needs, and the targets they serve."""

    steps: Mapping[str, Step]
    targets: tuple[TargetPlan, ...]

    def needed_by(self, target: TargetPlan) -> list[str]:
        """Return the steps of one target, in the plan's order."""
        wanted: set[str] = set()
        queue = [target.verify, target.graphs]
        while queue:
            step = queue.pop()
            if step not in wanted and step in self.steps:
                wanted.add(step)
                queue.extend(self.steps[step].needs)
        return [one for one in self.steps if one in wanted]
