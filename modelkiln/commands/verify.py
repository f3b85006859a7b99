"""`invoke verify`: a built target checked anew."""

from typing import Any

from modelkiln.building.available import note_left_out
from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import MANIFEST, check_files, find_manifest, target_folder
from modelkiln.building.once import run_once
from modelkiln.building.prepare import Prepared, prepare
from modelkiln.catalog.target import Target
from modelkiln.errors import KilnError, UsageError, VerificationFailure
from modelkiln.planning.graph import StepOutput, TargetPlan, TargetStatus
from modelkiln.report.summary import say_status, say_summary
from modelkiln.util import console


def verify_targets(kiln: Kiln, text: str, *, as_json: bool = False) -> None:
    """Check targets: first their bytes against the manifest, then every gate, without the cache.

    Raises:
        UsageError: a target has not been built.
        VerificationFailure: the first target that differs.
    """
    results: dict[str, Any] = {}
    failures: list[KilnError] = []
    prepared = prepare(kiln, text, runs=False)
    note_left_out(prepared.left_out)
    targets = prepared.targets
    held_back = [one for one in targets if is_held_back(kiln, one)]
    if len(held_back) == len(targets):
        held_back = []
    for target in held_back:
        console.note(f"left out {target.name}: it is not published")
    for planned in prepared.plan.targets:
        target = planned.target
        if target in held_back:
            continue
        try:
            metrics = _verify(kiln, prepared, planned)
        except VerificationFailure as error:
            failures.append(error)
            results[target.name] = {"ok": False, "what": error.what, "why": error.why}
            console.note(f"FAILED {target.name}: {error.what}")
        else:
            # What was only built did not fail, and is not verified by that: neither true nor false.
            verified = planned.status is TargetStatus.VERIFIED
            ok = True if verified else None
            results[target.name] = {"ok": ok, "status": str(planned.status), **metrics}
            if not as_json and verified:
                said = say_summary(metrics.get("summary"), metrics.get("benefit"))
                console.say(f"ok  {target.name}  {said}")
            elif not as_json:
                console.say(f"--  {target.name}  {say_status('built', metrics.get('summary'))}")
    if as_json:
        console.say_json(results)
    if failures:
        raise failures[0]


def is_held_back(kiln: Kiln, target: Target) -> bool:
    """Return whether a target that a glob matched is of a kind that builds hold back, and is not
    there.
    """
    there = (target_folder(kiln, target) / MANIFEST).is_file()
    return bool(target.format.replaces) and not target.by_name and not there


def verify_target(kiln: Kiln, target: Target) -> dict[str, Any]:
    """Check one target; returns the figures of its verification.

    Raises:
        UsageError: it has not been built, or what it is checked against is no longer in the store.
        VerificationFailure: a file was changed, or a gate fails.
    """
    prepared = prepare(kiln, [target], runs=False)
    return _verify(kiln, prepared, prepared.plan.targets[0])


def _verify(kiln: Kiln, prepared: Prepared, one: TargetPlan) -> dict[str, Any]:
    target = one.target
    check_files(kiln, target, find_manifest(kiln, target))
    step = prepared.plan.steps[one.verify]
    folder = target_folder(kiln, target)
    inputs = {}
    for name, source in step.inputs.items():
        assert isinstance(source, StepOutput)
        if source.step == one.graphs:
            inputs[name] = folder / name
            continue
        record = prepared.resolved[source.step].record
        if record is None:
            raise UsageError(
                f"What {target.name} is checked against is not in the store.",
                f"{source.step} was collected, or has changed since the target was built.",
                f"invoke build {target.name}",
            )
        inputs[name] = kiln.store.check(record.outputs[source.name])
    with run_once(
        kiln,
        f"verify {target.name}",
        environment=step.environment,
        modules=step.modules,
        params=step.params,
        inputs=inputs,
        timeout_s=step.timeout_s,
        cpus=step.cpus,
        memory=step.memory,
        gpu=step.gpu,
    ) as outcome:
        return dict(outcome.metrics)
