"""`invoke plan` and `invoke targets`: what would run, and why."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.modelkiln.lower_precision import FP8, INT8, MODEL, NAME

Invoke = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((INT8, "--calib-method", "minmax"), "max, entropy"),
        ((FP8, "--calib-method", "entropy"), "448"),
        ((INT8, "--quant-mode", "fp8"), "onnx-fp8"),
        ((INT8, "--calibration-eps", "cuda,dml"), "Windows"),
        ((INT8, "--calibration-eps", "cuda,dml,cpu"), "next: Leave dml out of --calibration-eps."),
        ((INT8, "--calib-size", "17"), "Name a folder of more pictures with --image-dir"),
        ((INT8, "--calib-size", "4", "--use-random-calib", "true"), "one picture of it"),
        ((INT8, "--image-input-dimension", "0,1024"), "from 1 to 16384"),
        ((INT8, "--image-input-dimension", "640,480"), "1024,1024"),
        ((INT8, "--calibration", "/nowhere"), "There is no folder /nowhere"),
        ((INT8, "--calibration", "/a", "--image-dir", "/b"), "different folders"),
        ((INT8, "--set", "calib_size=none"), "whole number"),
        ((f"{MODEL}/image/onnx-fp32", "--calib-size", "4"), "None of these targets"),
    ],
)
def test_wrong_options_end_with_2(invoke: Invoke, arguments: tuple[str, ...], said: str) -> None:
    done = invoke("plan", *arguments, "--weights", "random")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and "next:" in done.stderr
    assert "Traceback" not in done.stderr


def test_flags_reach_the_plan(invoke: Invoke, own_pictures: Path) -> None:
    flags = ["--calib-size", "2", "--image-file-extension", "png", "--dtype", "fp16"]
    flags += ["--op-types-to-quantize", "MatMul,Conv", "--calibration", str(own_pictures)]
    done = invoke("plan", INT8, "--weights", "random", "--format", "json", *flags)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (target,) = told["targets"]
    assert target["target"].startswith(f"{NAME}/image/onnx-int8@calib2.fp16.images-")
    assert target["target"].endswith(".ops-MatMul+Conv.png")
    stages = [one["stage"] for one in told["steps"]]
    assert stages.count("calibrate") == stages.count("quantize") == stages.count("assess") == 1
