"""From what a user names to what is to be done: targets, plan, state of its steps, runner.

Every command that works on targets starts here. Nothing is built and nothing is printed; what is
read is read once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from modelkiln.building.available import split_available
from modelkiln.building.kiln import Kiln
from modelkiln.catalog.target import Target
from modelkiln.errors import UsageError
from modelkiln.planning.graph import Plan
from modelkiln.planning.keys import KeyMaker, Resolved, Status, resolve
from modelkiln.planning.planner import Planner
from modelkiln.runners import AUTO
from modelkiln.runners.base import Runner
from modelkiln.runners.choice import Choice, choose, identities, make_runner
from modelkiln.store.records import Record
from modelkiln.util.machine import cpu_level


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a command has to do.

    Attributes:
        asked: What named the targets.
        targets: Those named, each once, that this version can build.
        left_out: Those that globs matched and that it cannot build.
        plan: The steps that make them.
        resolved: The state of every step, in the plan's order.
        choice: The runner of the steps that have still to run; None where `auto` has nothing to
            choose one for, or they are not to run.
    """

    asked: str
    targets: tuple[Target, ...]
    plan: Plan
    resolved: Mapping[str, Resolved]
    choice: Choice | None
    left_out: tuple[Target, ...] = ()

    @property
    def target(self) -> Target:
        """The one target, for commands that take one.

        Raises:
            UsageError: Several were named.
        """
        if len(self.targets) > 1:
            raise UsageError(
                f"{self.asked!r} names {len(self.targets)} targets.",
                "This command takes one.",
                f"For example: {self.targets[0].name}",
            )
        return self.targets[0]

    @property
    def is_done(self) -> bool:
        """Whether every step has its result."""
        return all(one.status is Status.HIT for one in self.resolved.values())

    @property
    def records(self) -> dict[str, Record]:
        """The records of the steps that are done."""
        return find_records(self.resolved)


def prepare(
    kiln: Kiln, wanted: str | Sequence[Target], until: str | None = None, *, runs: bool = True
) -> Prepared:
    """Find out what targets need.

    An engine is asked for only where something is to do and `--runner auto` leaves it open by what.

    Args:
        wanted: Targets and globs as on a command line, or targets that were selected already.
        until: The last stage that counts; what comes after it is left out of the plan.
        runs: Whether steps that are missing are to run; where not, `auto` chooses no runner.

    Raises:
        UsageError: A target is wrong.
        EnvironmentFailure: A target is named that this version cannot build.
        KilnError: A file that the plan rests on is missing or damaged.
    """
    able, left_out = split_available(kiln.targets(wanted) if isinstance(wanted, str) else wanted)
    targets = tuple(able)
    plan = make_plan(kiln, targets, until)
    choice = None if kiln.options.runner == AUTO else choose(kiln.provisioner, kiln.options.runner)
    resolved = resolve_plan(kiln, plan)
    if choice is None and runs and (missing := find_environments(resolved)):
        choice = choose(kiln.provisioner, AUTO, missing)
        # The key of a step that runs is that of the runner that runs it.
        resolved = resolve_plan(kiln, plan, choice)
    asked = wanted if isinstance(wanted, str) else ",".join(one.name for one in targets)
    return Prepared(
        asked=asked,
        targets=targets,
        plan=plan,
        resolved=resolved,
        choice=choice,
        left_out=tuple(left_out),
    )


def make_plan(kiln: Kiln, targets: Iterable[Target], until: str | None = None) -> Plan:
    """Return the plan for these targets."""
    planner = Planner(
        kiln.catalog,
        exists=lambda module: kiln.sources.find(module) is not None,
        sources=kiln.sources.digests,
        choose=kiln.choose_pictures,
        has_gpu=lambda: bool(kiln.gpu),
    )
    return planner.plan(targets, until)


def make_keys(kiln: Kiln, choice: Choice | None = None) -> KeyMaker:
    """Return what makes the keys of steps, those for the chosen runner first."""
    chosen = choice.name if choice else ""

    # Read once: the same for every step of the command.
    @cache
    def environments(name: str) -> tuple[Mapping[str, Any], ...]:
        return tuple(identities(kiln.provisioner, name, kiln.options.runner, chosen))

    return KeyMaker(
        sources=kiln.sources,
        environments=environments,
        threads=kiln.catalog.threads,
        seed=kiln.catalog.seed,
        facts={"cpu": cpu_level, "gpu": lambda: kiln.gpu},
    )


def resolve_plan(kiln: Kiln, plan: Plan, choice: Choice | None = None) -> dict[str, Resolved]:
    """Return the state of every step of a plan, as the store is now."""
    return resolve(plan, make_keys(kiln, choice), kiln.store.hit)


def find_environments(resolved: Mapping[str, Resolved]) -> set[str]:
    """Return the environments of the steps that have still to run."""
    return {one.step.environment for one in resolved.values() if one.status is not Status.HIT}


def find_records(resolved: Mapping[str, Resolved]) -> dict[str, Record]:
    """Return the records of the steps that are done."""
    return {name: one.record for name, one in resolved.items() if one.record is not None}


def open_runner(kiln: Kiln, environments: Iterable[str], choice: Choice | None = None) -> Runner:
    """Make the runner of these environments; where none is chosen yet, choose it and tell why.

    Raises:
        EnvironmentFailure: The runner that was asked for cannot run them.
    """
    from modelkiln.util import console

    names = list(environments)
    chosen = choice or choose(kiln.provisioner, kiln.options.runner, names)
    if chosen.why:
        console.note(str(chosen))
    return make_runner(kiln.provisioner, chosen, names)
