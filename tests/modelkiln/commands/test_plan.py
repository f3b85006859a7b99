"""`invoke plan` and `invoke targets`: what would run, and why."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands.plan import list_targets
from tests.modelkiln.lower_precision import FP8, INT8, MODEL, NAME

Invoke = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((INT8, "--calib-method", "minmax"), "max, entropy"),
        ((f"{MODEL}/image/rtx-fp16", "--gpu", "sm99"), "gpu cannot be 'sm99'"),
        ((f"{MODEL}/image/rtx-fp16", "--gpu", "sm90"), "H100"),
        ((f"{MODEL}/image/rtx-fp16", "--gpu", "sm87+sm89"), "Jetson"),
        ((f"{MODEL}/image/rtx-fp16", "--gpu", "portable+sm89"), "portable goes with no other"),
        ((f"{MODEL}/image/rtx-fp32", "--gpu", "sm75"), "FP32 GEMM"),
        ((f"{MODEL}/image/rtx-fp8", "--gpu", "portable"), "have no FP8"),
        ((f"{MODEL}/image/rtx-fp8", "--gpu", "sm86+sm89"), "8.6 has no FP8"),
        ((f"{MODEL}/image/rtx-fp16", "--profile", "num_points=3:2:1"), "3, 2 and 1"),
        ((f"{MODEL}/image/rtx-fp16", "--profile", "points=1:2:3"), "num_points"),
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


def test_every_target_is_listed(invoke: Invoke) -> None:
    lines = invoke("targets").stdout.splitlines()
    assert {"toy_a/words/toy-text", f"{MODEL}/image/onnx-fp32"} <= set(lines)
    assert json.loads(invoke("targets", "--json").stdout) == lines


def test_a_plan_says_what_would_run_and_why(invoke: Invoke, built: Path) -> None:
    done = invoke("plan", "toy_a/words@upper/toy-text", "--weights", "random", "--explain")
    assert done.returncode == 0, done.stderr
    assert "2 hit, 1 run, 2 pending" in done.stdout and "it has never run" in done.stdout
    plain = invoke("plan", "toy_a/words@upper/toy-text", "--weights", "random")
    assert "it has never run" not in plain.stdout


def test_a_plan_may_be_github_s_matrix_and_nothing_that_is_unknown(invoke: Invoke) -> None:
    done = invoke("plan", f"{MODEL}/image/onnx-fp32", "--weights", "random", "--format", "github")
    assert done.returncode == 0, done.stderr
    assert f"{MODEL}+random0" in done.stdout and "include" in done.stdout
    wrong = invoke("plan", f"{MODEL}/image/onnx-fp32", "--format", "yaml")
    assert wrong.returncode == 2
    assert "The formats are text, json, github." in wrong.stderr


def test_targets_that_cannot_be_built_are_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    list_targets(Kiln())
    listed = capsys.readouterr().out.split()
    assert "sam2.1_hiera_tiny/tracker/rtx-fp16" in listed
    assert not [one for one in listed if "/trt-" in one]
