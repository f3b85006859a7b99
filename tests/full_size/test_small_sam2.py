"""A shrunken SAM 2.1 in every format, as its users would build it and predict with it.

For `invoke test --only thorough`, beside one format at full size (test_quantized.py).
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.util.machine import cpu_level
from tests.full_size.small_sam2 import MODEL, write_catalog
from tests.full_size.test_tiny import PHOTOGRAPH
from tests.full_size.test_tiny import invoke as run_command

pytestmark = [pytest.mark.full_size, pytest.mark.thorough]

LINEARS = 31
# Without VNNI, 8-bit products saturate in 16 bits.
INT8_DECIBELS = 18 if "vnni" in cpu_level() else 11
LEAST_DECIBELS = {
    "onnx-fp16": 55,
    "onnx-int8": INT8_DECIBELS,
    "onnx-int8-dynamic": INT8_DECIBELS,
    "onnx-fp8": 20,
}

Invoke = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("small")


@pytest.fixture(scope="module")
def invoke(room: Path) -> Invoke:
    write_catalog(room / "catalog", "image", "treedect", "tracker", "tracker-ex")

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return run_command(
            *arguments,
            MODELKILN_ARTIFACTS=str(room / "artifacts"),
            MODELKILN_CATALOG=str(room / "catalog"),
        )

    return run


@pytest.fixture(scope="module")
def built(invoke: Invoke, room: Path) -> Path:
    """The folder of the model's results: every format of `image`, and `treedect`."""
    targets = f"{MODEL}/image/*,{MODEL}/treedect/*"
    done = invoke("build", targets, "--weights", "random")
    assert done.returncode == 0, done.stderr
    return room / "artifacts" / "out" / f"{MODEL}+random0"


def test_treedect_is_verified_too(built: Path) -> None:
    manifest = json.loads((built / "treedect" / "onnx-fp32" / "manifest.json").read_text())
    worst = manifest["verification"]["worst"].values()
    assert all(0 < one["relative"] <= 1e-5 for one in worst)
    assert manifest["verification"]["lowest_iou"] >= 0.999


@pytest.mark.parametrize("name", LEAST_DECIBELS)
def test_every_format_is_assessed(built: Path, name: str) -> None:
    folder = built / "image" / name
    checks = json.loads((folder / "verification.json").read_text())
    lost = [float(one["value"]) for one in checks["gates"] if one["name"] == "snr_db"]
    assert min(lost) > LEAST_DECIBELS[name]
    encoder = json.loads((folder / "quantization.json").read_text())["graphs"]["encoder"]
    assert encoder["linears"] == LINEARS
    assert encoder["quantized"] == (0 if name == "onnx-fp16" else LINEARS)
    if name.startswith("onnx-int8"):
        assert checks["kernels"]["encoder"]["integer"] == LINEARS


@pytest.mark.parametrize("name", LEAST_DECIBELS)
def test_every_format_is_predicted_with(
    invoke: Invoke, built: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "overlay.png"
    target = f"{MODEL}+random0/image/{name}"
    done = invoke("predict", target, str(PHOTOGRAPH), "--point", "225,130", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "random weights: this mask means nothing" in done.stdout
    assert out.read_bytes().startswith(b"\x89PNG")
