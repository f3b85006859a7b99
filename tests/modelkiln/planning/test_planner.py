"""Plans: the steps that targets need, in an order in which they can run."""

from dataclasses import replace

import pytest

from modelkiln.building.prepare import make_plan, prepare
from modelkiln.errors import UsageError
from tests.modelkiln.lower_precision import (
    CALIBRATE,
    INT8,
    MODEL,
    NAME,
    MakeKiln,
    Steps,
    see_gpu,
)

STEPS = ["ingest", "export", "convert", "reference", "verify"]


def test_steps_come_after_what_they_need(make_kiln: MakeKiln) -> None:
    plan = prepare(make_kiln(), "toy_*/words/toy-text").plan
    seen: set[str] = set()
    for step in plan.steps.values():
        assert set(step.needs) <= seen
        seen.add(step.id)
    assert len(plan.steps) == 4 * len(STEPS)


def test_a_target_is_float32_s_steps_and_three_more(steps: Steps) -> None:
    fp32 = steps(f"{MODEL}/image/onnx-fp32")
    found = steps(INT8)
    assert {name: found[name] for name in fp32} == dict(fp32)
    more = [CALIBRATE, f"{NAME}/image/onnx-int8/quantize", f"{NAME}/image/onnx-int8/verify"]
    assert [name for name in found if name not in fp32] == more
    assert [found[name].stage for name in more] == ["calibrate", "quantize", "assess"]
    assert {found[name].environment for name in more} == {"quantize"}
    assert {one.environment for one in fp32.values()} == {"export"}
    assert [found[name].modules for name in more[1:]] == [
        ("exporters.stages.quantize",),
        ("exporters.stages.assess", "exporters.sam2.image.verify"),
    ]
    assert not any(one.gpu for one in found.values())


def test_until_stops_after_each_stage(make_kiln: MakeKiln) -> None:
    kiln = see_gpu(make_kiln(), False)
    targets = kiln.targets(INT8)
    for stage in ("ingest", "export", "convert", "calibrate", "quantize"):
        plan = make_plan(kiln, targets, stage)
        assert [one.stage for one in plan.steps.values()][-1] == stage
        assert plan.targets[0].graphs == plan.targets[0].verify == list(plan.steps)[-1]


def test_a_format_with_an_unknown_stage_is_told(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    (target,) = kiln.targets(f"{MODEL}/image/onnx-fp32")
    stages = ("export", "shrink")
    wrong = replace(target, format=replace(target.format, stages=stages))
    with pytest.raises(UsageError, match="has a stage 'shrink'"):
        make_plan(kiln, [wrong])
