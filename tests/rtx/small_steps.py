"""Calls the stages `engine` and `check_engine` on a small graph."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from exporters.protocol import Result, Step
from exporters.stages import check_engine, engine
from tests.rtx.small_graphs import GOLDEN, WIDTH, write_fp16

SHAPES = {"small": {"x": [[2, WIDTH]] * 3}}
SUMMARY = {"worst": {}, "masks": 0}


def make_step(folder: Path, stage: str, inputs: Mapping[str, Path], **params: Any) -> Step:
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    return Step(
        step=f"tiny/small/{stage}",
        stage=stage,
        modules=(f"exporters.stages.{stage}",),
        params={
            "flavour": "rtx",
            "graphs": [GOLDEN],
            "onnx": {"small": ["small.onnx"]},
            "engines": {"small": "small.engine"},
            "shapes": SHAPES,
            "precision": "fp16",
            "quantized": [],
            "gpus": ["portable"],
            "tf32": False,
            "verbosity": "detailed",
            **params,
        },
        inputs=inputs,
        out=out,
        threads=1,
        seed=0,
    )


def run_engine(
    folder: Path,
    make: Callable[[Path], Path] = write_fp16,
    quantization: Mapping[str, Any] | None = None,
    **params: Any,
) -> tuple[Step, Result]:
    """Build the engine of a graph; returns the step and what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {"small.onnx": make(folder / "small.onnx")}
    if quantization is not None:
        inputs["quantization.json"] = folder / "quantization.json"
        inputs["quantization.json"].write_text(json.dumps(quantization))
    step = make_step(folder, "engine", inputs, **params)
    return step, engine.run(step)


def run_check(built: Step, folder: Path, **params: Any) -> dict[str, Any]:
    """Check what was built; returns `built.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    verification = folder / "verification.json"
    verification.write_text(json.dumps({"summary": SUMMARY}))
    step = make_step(
        folder,
        "check_engine",
        {
            **built.inputs,
            "small.engine": built.out / "small.engine",
            "engines.json": built.out / "engines.json",
            "verification.json": verification,
        },
        **{**built.params, "source": "tiny/small/onnx-fp16", **params},
    )
    result = check_engine.run(step)
    assert result.outputs == ["built.json"]
    document: dict[str, Any] = json.loads((step.out / "built.json").read_text())
    assert result.metrics["summary"].items() <= document.items()
    return document
