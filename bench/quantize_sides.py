"""What the sides of bench.quantize start from: a published encoder, and the plans of our steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.quantized import DYNAMIC, PRESET
from bench.weights import say_weights, with_weights
from modelkiln.building.build import build
from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import target_folder
from modelkiln.building.prepare import make_plan
from modelkiln.catalog.target import Target
from modelkiln.errors import StageFailure

STAGES = ("calibrate", "quantize")
FP32 = "onnx-fp32"


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Where the sides start.

    Attributes:
        graph: The float32 encoder, published.
        plans: What our two steps are told, by format.
        calibration: The folder of the catalog's calibration pictures.
        held_out: The folder of those that verification uses.
        preset: How many pictures the model's preset calibrates with.
        weights: Which they are, in a word.
    """

    graph: Path
    plans: Mapping[str, Mapping[str, Any]]
    calibration: Path
    held_out: Path
    preset: int
    weights: str


def find_sides(kiln: Kiln, name: str) -> Sides:
    """Build the float32 target where it is not there yet, and plans those of lower precision.

    Args:
        name: MODEL/CONTRACT/onnx-fp32.

    Raises:
        KilnError: It cannot be built.
    """
    kiln = with_weights(kiln, name)
    (target,) = kiln.targets(name)
    for failed in build(kiln, [target]).failed:
        raise failed.error
    plans = {}
    for form in (PRESET, DYNAMIC):
        (lower,) = kiln.targets(name.removesuffix(FP32) + form)
        plans[form] = plan_steps(kiln, lower)
    golden = plans[PRESET]["quantize"]["graphs"][0]
    graph = target_folder(kiln, target) / golden["file"]
    if not graph.is_file():
        raise StageFailure(
            f"{target.name} has no {golden['file']}.",
            f"{graph} is not there.",
            f"Run: invoke build {target.name}",
        )
    return Sides(
        graph=graph,
        plans=plans,
        calibration=kiln.catalog.calibration,
        held_out=target.contract.pictures[0].parent,
        preset=plans[PRESET]["calibrate"]["calib_size"],
        weights=say_weights(target),
    )


def plan_steps(kiln: Kiln, target: Target) -> dict[str, Any]:
    """Return what the steps of a target of lower precision are told, for the graphs that they
    change.
    """
    told: dict[str, Any] = dict.fromkeys(STAGES)
    for step in make_plan(kiln, [target]).steps.values():
        if step.stage in STAGES:
            changed = [one for one in step.params["graphs"] if one["name"] in target.quantized]
            told[step.stage] = {**step.params, "graphs": changed}
    return {**told, "threads": kiln.catalog.threads, "seed": kiln.catalog.seed}
