"""What a build would do, as text or as JSON; nothing is built."""

from collections.abc import Mapping
from typing import Any

from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import Prepared
from modelkiln.planning.graph import PinnedFile, Plan, SourceFile, StepOutput
from modelkiln.planning.keys import Resolved, Status, explain
from modelkiln.util import console


def show_plan(kiln: Kiln, prepared: Prepared, *, as_json: bool = False, why: bool = False) -> None:
    """Print the steps of a plan with what a build would do with each.

    Args:
        as_json: The whole plan as JSON.
        why: For each step that would run, the parts of its key that changed since it last ran.
    """
    plan, resolved = prepared.plan, prepared.resolved
    if prepared.choice and prepared.choice.why:
        console.note(str(prepared.choice))
    kiln.save_caches()
    reasons = {name: find_reasons(kiln, one) for name, one in resolved.items()} if why else {}
    if as_json:
        console.say_json(describe_plan(plan, resolved, reasons))
        return
    width = max(len(name) for name in resolved)
    for name, one in resolved.items():
        waits = f"after {', '.join(one.waits_for)}" if one.waits_for else ""
        console.say(f"{one.status:<8} {name:<{width}}  {one.key[:12]}{waits}".rstrip())
        for line in reasons.get(name, []):
            console.say(f"         {line}")
    counts = {status: sum(one.status is status for one in resolved.values()) for status in Status}
    console.say(", ".join(f"{count} {status}" for status, count in counts.items()))


def find_reasons(kiln: Kiln, one: Resolved) -> list[str]:
    """Return why a step would run: what changed in its key since the last record of the
    same step.
    """
    if one.status is Status.HIT:
        return []
    if one.status is Status.PENDING:
        return [f"pending: after {', '.join(one.waits_for)}"]
    last = kiln.store.latest(one.step.id)
    if last is None:
        return ["it has never run"]
    if last.key == one.key or kiln.store.record(one.key) is not None:
        return ["an output of its record is missing from the store"]
    return explain(last.document, one.document)


def describe_plan(
    plan: Plan, resolved: Mapping[str, Resolved], reasons: dict[str, list[str]]
) -> dict[str, Any]:
    """Return a plan as plain data."""
    steps = []
    for name, one in resolved.items():
        steps.append(
            {
                "id": name,
                "stage": one.step.stage,
                "environment": one.step.environment,
                "modules": list(one.step.modules),
                "status": str(one.status),
                "key": one.key or None,
                "needs": one.step.needs,
                "inputs": {n: _describe_input(i) for n, i in one.step.inputs.items()},
                "params": one.step.params,
                "cpus": one.step.cpus,
                "memory": one.step.memory,
                **({"reasons": reasons[name]} if name in reasons else {}),
            }
        )
    targets = [{"target": one.target.name, "steps": plan.needed_by(one)} for one in plan.targets]
    return {"steps": steps, "targets": targets}


def _describe_input(one: StepOutput | SourceFile | PinnedFile) -> dict[str, Any]:
    match one:
        case StepOutput(step=step, name=name):
            return {"step": step, "output": name}
        case SourceFile(path=path):
            return {"source": path.name}
        case PinnedFile(sha256=sha256, bytes=size):
            return {"sha256": sha256, "bytes": size}
