"""What the sides of bench.quantize start from."""

import json
from pathlib import Path

import pytest

from bench import quantize_sides
from bench.quantize_sides import find_sides, plan_steps
from modelkiln.building.kiln import Kiln
from modelkiln.building.options import Options
from modelkiln.errors import StageFailure


def test_our_steps_are_those_of_the_plan() -> None:
    kiln = Kiln(Options(weights="random"))
    (target,) = kiln.targets("sam2.1_hiera_tiny/image/onnx-int8")
    told = plan_steps(kiln, target)
    assert [one["name"] for one in told["quantize"]["graphs"]] == ["encoder"]
    assert told["calibrate"]["calib_size"] == 16
    assert (told["threads"], told["seed"]) == (kiln.catalog.threads, kiln.catalog.seed)
    json.dumps(told)
    (target,) = kiln.targets("sam2.1_hiera_tiny/image/onnx-int8-dynamic")
    assert plan_steps(kiln, target)["calibrate"] is None


def test_a_target_that_cannot_be_built_is_no_side(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Nothing:
        failed = ()

    monkeypatch.setattr(quantize_sides, "build", lambda *_: Nothing())
    kiln = Kiln(Options(weights="random"), artifacts=tmp_path)
    with pytest.raises(StageFailure, match="has no encoder"):
        find_sides(kiln, "sam2.1_hiera_tiny/image/onnx-fp32")
    folder = tmp_path / "out" / "sam2.1_hiera_tiny+random0" / "image" / "onnx-fp32"
    folder.mkdir(parents=True)
    (folder / "encoder.onnx").touch()
    sides = find_sides(kiln, "sam2.1_hiera_tiny/image/onnx-fp32")
    assert (sides.graph, sides.weights) == (folder / "encoder.onnx", "random")
    assert (sides.preset, sides.calibration.name, sides.held_out.name) == (
        16,
        "calibration",
        "pictures",
    )
