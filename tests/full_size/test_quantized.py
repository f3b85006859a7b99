"""SAM 2.1 tiny and DINOv2 ViT-S at full size in INT8, as their users would build them.

For `invoke test --only thorough`, which continuous integration runs, as the other formats of a
shrunken SAM are (test_small_sam2.py); `make test` builds all formats of a fixture model
(test_gates.py).
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.environments.cache import find
from modelkiln.paths import REPOSITORY, artifacts_root
from modelkiln.util.machine import cpu_level
from tests.full_size.test_tiny import MODEL, PHOTOGRAPH, invoke

pytestmark = [pytest.mark.full_size, pytest.mark.thorough]

IMAGE = f"{MODEL}/image"
INT8 = f"{IMAGE}/onnx-int8"
FEATURES = "dinov2_vits14+random0/features@224x224/onnx-int8"
LINEARS = 51
# Trained weights have to reach less. Without VNNI, 8-bit products saturate in 16 bits: 7 dB lost.
INT8_DECIBELS = 26 if "vnni" in cpu_level() else 22


def build(*targets: str) -> None:
    done = invoke("build", ",".join(targets))
    assert done.returncode == 0, done.stderr


def read(target: str, name: str) -> dict[str, Any]:
    path = artifacts_root() / "out" / target / name
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def lowest_snr(target: str) -> float:
    """The least signal to noise of any output, in dB."""
    checks = read(target, "verification.json")
    return min(float(one["value"]) for one in checks["gates"] if one["name"] == "snr_db")


@pytest.fixture(scope="module")
def int8() -> str:
    build(f"{IMAGE}/onnx-fp32", INT8)
    return INT8


def test_every_linear_is_an_integer_kernel(int8: str) -> None:
    plan = read(int8, "quantization.json")["graphs"]["encoder"]
    assert (plan["linears"], plan["quantized"], plan["integer_kernels"]) == (LINEARS,) * 3
    checks = read(int8, "verification.json")
    assert checks["kernels"]["encoder"]["integer"] == LINEARS
    assert checks["binding"] is False
    assert lowest_snr(int8) > INT8_DECIBELS


def test_the_encoder_is_small_and_the_decoder_untouched(int8: str) -> None:
    files = read(int8, "manifest.json")["files"]
    assert files["encoder.onnx"]["bytes"] <= 34_000_000
    decoder = read(f"{IMAGE}/onnx-fp32", "manifest.json")["files"]["decoder.onnx"]
    assert files["decoder.onnx"] == decoder


def test_one_calibration_serves_both_layouts(int8: str) -> None:
    done = invoke("plan", f"{INT8}@explicit", "--json")
    steps = {one["stage"]: one["status"] for one in json.loads(done.stdout)["steps"]}
    assert steps["calibrate"] == "hit"
    assert steps["quantize"] == "run"


def test_it_is_used_like_any_other(int8: str, tmp_path: Path) -> None:
    use(int8, tmp_path)
    page = tmp_path / "page.html"
    assert invoke("report", int8, "--out", str(page)).returncode == 0
    assert "random weights: this mask means nothing" in page.read_text()
    told = invoke("inspect", int8).stdout
    assert "51 of 51 linears INT8" in told
    assert told.count("  opset 18, ") == 2


def use(target: str, folder: Path) -> None:
    """Predicts with a target, and runs its example in either environment."""
    out = folder / "overlay.png"
    done = invoke("predict", target, str(PHOTOGRAPH), "--point", "225,130", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")
    kiln = Kiln()
    example = artifacts_root() / "out" / target / "example.py"
    for name in ("export", "quantize"):
        python = find(kiln.provisioner.environment(name), kiln.cache)
        assert python is not None
        mask = folder / "mask.png"
        mask.unlink(missing_ok=True)
        subprocess.run([python, example, PHOTOGRAPH, "225", "130"], cwd=folder, check=True)
        assert mask.read_bytes().startswith(b"\x89PNG")


def test_dinov2_in_int8(tmp_path: Path) -> None:
    build(FEATURES)
    checks = read(FEATURES, "verification.json")
    assert all(one["ok"] for one in checks["gates"])
    assert {one["name"] for one in checks["gates"]} == {"snr_db", "cosine"}
    assert checks["kernels"]["features"]["integer"] == 48
    out = tmp_path / "features.png"
    done = invoke("predict", FEATURES, str(PHOTOGRAPH), "--out", str(out))
    assert done.returncode == 0, done.stderr


def test_calibration_pictures_that_are_wrong_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index}.jpg").write_bytes(
            (REPOSITORY / PHOTOGRAPH).read_bytes()[: 2000 * index]
        )
    done = invoke("build", INT8, "--calibration", str(folder), "--calib-size", "3")
    assert done.returncode == 2, done.stderr
    assert "calibration pictures cannot be used" in done.stderr
    assert "0.jpg" in done.stderr
