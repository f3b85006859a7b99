"""The plan as data: what goes before a step, and what a target needs."""

from pathlib import Path
from typing import cast

from modelkiln.catalog.target import Target
from modelkiln.planning.graph import Input, Plan, SourceFile, Step, StepOutput, TargetPlan


def step(name: str, *needs: str, key: tuple[str, ...] = ()) -> Step:
    inputs: dict[str, Input] = {"z": SourceFile(path=Path("picture"))}
    for number, one in enumerate(needs):
        inputs[str(number)] = StepOutput(step=one, name="file")
    return Step(
        id=name,
        stage="stage",
        environment="bare",
        modules=(),
        params={},
        inputs=inputs,
        cpus=1,
        memory=1,
        disk=1,
        timeout_s=1,
        key=key,
    )


def test_each_step_that_goes_before_counts_once_in_the_order_of_the_inputs() -> None:
    assert step("d", "b", "a", "b").needs == ["b", "a"]
    assert step("a").needs == []


def test_a_step_needs_a_gpu_where_its_bytes_depend_on_one() -> None:
    assert step("a", key=("cpu", "gpu")).gpu
    assert not step("a", key=("cpu",)).gpu


def test_a_target_needs_what_leads_to_its_graphs_and_its_check() -> None:
    steps = [
        step("ingest"),
        step("other", "ingest"),
        step("export", "ingest"),
        step("reference", "ingest"),
        step("verify", "export", "reference"),
        step("last", "export"),
    ]
    target = TargetPlan(target=cast(Target, None), graphs="last", verify="verify")
    plan = Plan(steps={one.id: one for one in steps}, targets=(target,))
    assert plan.needed_by(target) == ["ingest", "export", "reference", "verify", "last"]
    # What is not in the plan, as after --until, is not needed.
    shorter = Plan(steps={one.id: one for one in steps[:3]}, targets=(target,))
    only = TargetPlan(target=cast(Target, None), graphs="export", verify="verify")
    assert shorter.needed_by(only) == ["ingest", "export"]
