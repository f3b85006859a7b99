"""Building: from targets to verified files in out/.

Everything that a user can get wrong is found before the first step starts: targets, weights, disk,
environment, network. Then the scheduler runs what has no record, and publishes what was verified.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import MANIFEST
from modelkiln.building.prepare import (
    Prepared,
    find_environments,
    open_runner,
    prepare,
    resolve_plan,
)
from modelkiln.building.publish import Published, publish
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import FileWeights
from modelkiln.errors import KilnError, StoreError
from modelkiln.planning.graph import Plan, TargetPlan
from modelkiln.runners.choice import choose
from modelkiln.store.records import Record
from modelkiln.store.store import DamagedBlob
from modelkiln.util import console

if TYPE_CHECKING:
    from modelkiln.runners.base import Runner


REPAIRS = 3


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A target that was not built, and why."""

    target: str
    step: str
    error: KilnError


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build did.

    Attributes:
        seconds: Wall time of each step that ran, by its id.
        held_back: Targets that were built and not published, for they do not pay here.
    """

    published: tuple[Published, ...]
    failed: tuple[Failed, ...]
    seconds: Mapping[str, float]
    records: Mapping[str, Record]
    held_back: tuple[Target, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was built, written or restored, or failed."""
        written = any(one.written for one in self.published)
        return written or bool(self.seconds) or bool(self.failed)


def build(
    kiln: Kiln,
    wanted: Prepared | str | Sequence[Target],
    *,
    until: str | None = None,
    runner: "Runner | None" = None,
) -> Built:
    """Build targets, each to its verified folder in out/.

    Args:
        wanted: What was prepared, or the targets to prepare.
        until: Stop after this stage; nothing is published then.
        runner: What executes steps; the one that `--runner` says unless given.

    Raises:
        KilnError: before the first step, where something is wrong or missing; Interrupted.
    """
    prepared = wanted if isinstance(wanted, Prepared) else prepare(kiln, wanted, until)
    plan = prepared.plan
    if prepared.is_done:
        with suppress(DamagedBlob):
            return _finish(kiln, plan, prepared.records, until)
    # Imported late: a build with nothing to do is over by now.
    from modelkiln.building.session import STEPS, Session

    # Where all was done, a damaged file has just been set aside.
    now = resolve_plan(kiln, plan) if prepared.is_done else prepared.resolved
    needed = find_environments(now)
    choice = prepared.choice or choose(kiln.provisioner, kiln.options.runner, needed)
    if runner is None:
        runner = open_runner(kiln, needed, choice)
    with kiln.store.in_use(on_wait=_say_waiting("the store")):
        kiln.store.reap()
        session = Session(kiln, plan, runner, choice)
        for _ in range(REPAIRS):
            for do in STEPS:
                do(session)
            run = session.result
            if any(isinstance(error, DamagedBlob) for error in run.errors.values()):
                continue
            with suppress(DamagedBlob):
                return replace(
                    _finish(kiln, plan, run.records, until),
                    failed=_find_failed(plan, run.records, run.errors, run.skipped),
                    seconds=session.seconds,
                )
        raise StoreError(
            f"Files of the store {kiln.artifacts} keep being damaged.",
            f"{REPAIRS} rebuilds in a row met bytes that are not those that were written.",
            "Check the disk and the memory of this machine; then run: invoke store.verify",
        )


def _finish(kiln: Kiln, plan: Plan, records: Mapping[str, Record], until: str | None) -> Built:
    """Publish the targets whose steps are all done, but for those that nobody named and that are
    neither smaller nor faster than what they replace."""
    done = [one for one in plan.targets if all(name in records for name in plan.needed_by(one))]
    if until is not None:
        done = []
    held = [one for one in done if not one.target.by_name and not _pays(records[one.verify])]
    return Built(
        published=tuple(_publish(kiln, plan, one, records) for one in done if one not in held),
        failed=(),
        seconds={},
        records=records,
        held_back=tuple(one.target for one in held),
    )


def _pays(verified: Record) -> bool:
    return verified.metrics.get("pays") is not False


def _find_failed(
    plan: Plan,
    records: Mapping[str, Record],
    errors: Mapping[str, KilnError],
    skipped: Mapping[str, str],
) -> tuple[Failed, ...]:
    failed: list[Failed] = []
    for one in plan.targets:
        broken = next((name for name in plan.needed_by(one) if name not in records), None)
        if broken is not None:
            cause = skipped.get(broken) or broken
            if cause not in errors:
                cause = next(iter(errors))
            failed.append(Failed(target=one.target.name, step=cause, error=errors[cause]))
    return tuple(failed)


def _publish(kiln: Kiln, plan: Plan, one: TargetPlan, records: Mapping[str, Record]) -> Published:
    done = publish(kiln, plan, one, records)
    for name in done.restored:
        console.warn(f"{done.folder / name} had been changed or removed; it was restored.")
    return done


def _say_waiting(what: str) -> Callable[[object], None]:
    return lambda holder: console.note(f"waiting for {what}: it is held by {holder}")


def rests_on(kiln: Kiln, built: Built, targets: Sequence[Target]) -> Iterator[Path]:
    """Yield the files that have to stay as they are for a build to do nothing."""
    for record in built.records.values():
        yield kiln.store.record_path(record.key)
        yield from (kiln.store.blob_path(blob.sha256) for blob in record.outputs.values())
    for done in built.published:
        yield from (done.folder / name for name in (*done.files, MANIFEST))
    if isinstance(kiln.weights, FileWeights):
        yield Path(kiln.weights.path)
    for pictures in (one.pictures for one in targets if one.pictures):
        # A folder's times change with every name that comes or goes.
        yield from (pictures.folder, *pictures.files)


def raise_failures(built: Built) -> None:
    """Say every failure but the first, and raise the first."""
    errors: dict[str, KilnError] = {}
    for failed in built.failed:
        errors.setdefault(failed.step, failed.error)
    for error in list(errors.values())[1:]:
        console.note(f"error: {error}")
    for error in errors.values():
        raise error
