"""DINOv2 ViT-S at full size, as its users would build and look at it.

`make test` takes one graph, tests/exporters/dinov2 all kinds and sizes of shrunken models. The
contract of an application is for `invoke test --only thorough`, which continuous integration runs;
test_quantized.py has the kind without registers.
"""

import json
import subprocess
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.environments.cache import find
from modelkiln.paths import REPOSITORY, artifacts_root
from tests.full_size.test_tiny import invoke

pytestmark = pytest.mark.full_size

REGISTERS = "dinov2_vits14_reg4+random0"
PHOTOGRAPH = REPOSITORY / "catalog" / "pictures" / "coffee.jpg"
WARNING = "random weights: this feature map means nothing"
# At 518 there is nothing to interpolate.
TARGET = f"{REGISTERS}/features@224x224/onnx-fp32"
# The contract of one application, at another size.
TREEDECT = f"{REGISTERS}/treedect-features/onnx-fp32"


def build(*targets: str) -> Path:
    done = invoke("build", ",".join(targets))
    assert done.returncode == 0, done.stderr
    return artifacts_root() / "out"


def check(out: Path, target: str) -> None:
    manifest = json.loads((out / target / "manifest.json").read_text())
    outputs = {"cls_token", "patch_tokens"}
    if "reg4" in target:
        outputs.add("register_tokens")
    summary = manifest["verification"]["worst"]
    assert set(summary) == {f"features/{one}" for one in outputs}
    assert all(0 < one["relative"] <= 1e-5 for one in summary.values())
    checks = json.loads((out / target / "verification.json").read_text())["tensors"]
    # Each of six pictures alone, and the three photographs as a batch.
    assert len(checks) == len(outputs) * (6 + 3)
    assert manifest["weights"]["warning"] == WARNING


@pytest.fixture(scope="module")
def out() -> Path:
    return build(TARGET)


def test_all_tokens_equal_those_of_unpatched_pytorch(out: Path) -> None:
    check(out, TARGET)


def test_the_example_runs_as_it_stands(out: Path, tmp_path: Path) -> None:
    kiln = Kiln()
    python = find(kiln.provisioner.environment("export"), kiln.cache)
    assert python is not None
    done = subprocess.run(
        [python, out / TARGET / "example.py", PHOTOGRAPH],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "256" in done.stdout
    assert {one.suffix for one in tmp_path.iterdir()} == {".npz", ".png"}


def test_predict_draws_the_principal_components(out: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.png"
    done = invoke("predict", TARGET, str(PHOTOGRAPH), "--out", str(overlay))
    assert done.returncode == 0, done.stderr
    assert WARNING in done.stdout
    assert {one.name for one in tmp_path.iterdir()} == {"overlay.png", "overlay.pca.png"}


def test_prompts_are_refused(out: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.png"
    done = invoke("predict", TARGET, str(PHOTOGRAPH), "--point", "3,4", "--out", str(overlay))
    assert done.returncode == 2
    assert "takes no prompts" in done.stderr
    assert not overlay.exists()


def test_the_checkpoint_of_another_kind_is_refused_with_its_name(out: Path, tmp_path: Path) -> None:
    record = Kiln().store.latest(f"{REGISTERS}/ingest")
    assert record is not None
    blob = Kiln().store.blob_path(record.outputs["weights.safetensors"].sha256)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(blob.read_bytes())
    done = invoke("build", "dinov2_vits14/features/onnx-fp32", "--weights", str(weights))
    assert done.returncode == 2, done.stderr
    assert "register_tokens" in done.stderr
    assert "Name dinov2_vits14_reg4 in the target instead" in done.stderr


@pytest.mark.thorough
def test_treedect_s_graph_shares_its_reference() -> None:
    out = build(TREEDECT)
    ours = json.loads((out / TREEDECT / "manifest.json").read_text())
    assert set(ours["verification"]["worst"]) == {"features/patch_tokens"}
    # Its reference is that of the same size under the other contract.
    done = invoke("plan", f"{REGISTERS}/features@448x448/onnx-fp32", "--json")
    steps = {one["id"]: one for one in json.loads(done.stdout)["steps"]}
    shared = steps[f"{REGISTERS}/features@448x448/reference"]
    assert shared["status"] == "hit"
    assert ours["steps"][shared["id"]]["key"] == shared["key"]
