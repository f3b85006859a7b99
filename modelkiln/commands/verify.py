"""`invoke verify`: a built target checked anew."""

from typing import Any

from modelkiln import console
from modelkiln.errors import KilnError, UsageError, VerificationFailure
from modelkiln.kiln import Kiln
from modelkiln.once import check_files, find_manifest, run_once
from modelkiln.plan import StepOutput
from modelkiln.publish import say_summary, target_folder
from modelkiln.target import Target


def verify_targets(kiln: Kiln, text: str, *, as_json: bool = False) -> None:
    """Check targets: first their bytes against the manifest, then every gate, without the cache.

    Raises:
        UsageError: a target has not been built.
        VerificationFailure: the first target that differs.
    """
    results: dict[str, Any] = {}
    failures: list[KilnError] = []
    for target in kiln.targets(text):
        try:
            metrics = verify_target(kiln, target)
        except VerificationFailure as error:
            failures.append(error)
            results[target.name] = {"ok": False, "what": error.what, "why": error.why}
            console.note(f"FAILED {target.name}: {error.what}")
        else:
            results[target.name] = {"ok": True, **metrics}
            if not as_json:
                console.say(f"ok  {target.name}  {say_summary(metrics.get('summary'))}")
    if as_json:
        console.say_json(results)
    if failures:
        raise failures[0]


def verify_target(kiln: Kiln, target: Target) -> dict[str, Any]:
    """Check one target; returns the figures of its verification.

    Raises:
        UsageError: it has not been built, or its reference is no longer in the store.
        VerificationFailure: a file was changed, or a gate fails.
    """
    manifest = find_manifest(kiln, target)
    check_files(kiln, target, manifest)
    plan = kiln.plan([target])
    step = plan.steps[plan.targets[0].verify]
    resolved = kiln.resolve(plan)
    folder = target_folder(kiln, target)
    inputs = {}
    for name, source in step.inputs.items():
        assert isinstance(source, StepOutput)
        if name in target.graph_files:
            inputs[name] = folder / name
            continue
        record = resolved[source.step].record
        if record is None:
            raise UsageError(
                f"The reference of {target.name} is not in the store.",
                "It was collected, or the sources have changed since the target was built.",
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
    ) as outcome:
        return dict(outcome.metrics)
