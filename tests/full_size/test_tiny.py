"""SAM 2.1 tiny at full size through everything that can run here, as its users would do it.

Random weights, in the usual artifacts folder, so that what `make quickstart` built is not built
again.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.environments.cache import find
from modelkiln.paths import REPOSITORY, artifacts_root

pytestmark = pytest.mark.full_size

MODEL = "sam2.1_hiera_tiny+random0"
TARGET = f"{MODEL}/image/onnx-fp32"
PHOTOGRAPH = REPOSITORY / "catalog" / "pictures" / "astronaut.jpg"

Invoke = Callable[..., "subprocess.CompletedProcess[str]"]


def invoke(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command; `settings` are environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=REPOSITORY,
        # As on a machine without an engine; tests/containers has the one that may be here.
        env={**os.environ, "DOCKER_HOST": "unix:///nowhere/engine.sock", **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def build(target: str) -> Path:
    """The folder of results, with a target among them."""
    done = invoke("build", target)
    assert done.returncode == 0, done.stderr
    return artifacts_root() / "out"


@pytest.fixture(scope="module")
def built() -> Path:
    return build(TARGET)


def test_every_gate_is_passed(built: Path) -> None:
    manifest = json.loads((built / TARGET / "manifest.json").read_text())
    summary = manifest["verification"]
    assert all(one["relative"] <= 1e-5 for one in summary["worst"].values())
    assert summary["masks_counted"] > summary["masks"] / 2
    assert summary["lowest_iou"] >= 0.999
    assert manifest["weights"]["warning"] == "random weights: this mask means nothing"


def test_a_second_build_does_nothing(built: Path) -> None:
    done = invoke("build", TARGET, "--json")
    told = json.loads(done.stdout)
    assert told["seconds"] == {}
    assert all(one["written"] == [] for one in told["published"])


def test_the_example_runs_as_it_stands(built: Path, tmp_path: Path) -> None:
    kiln = Kiln()
    python = find(kiln.provisioner.environment("export"), kiln.cache)
    assert python is not None
    subprocess.run(
        [python, built / TARGET / "example.py", PHOTOGRAPH, "225", "130"], cwd=tmp_path, check=True
    )
    mask = tmp_path / "mask.png"
    assert mask.read_bytes().startswith(b"\x89PNG")


def test_predict_draws_points_and_boxes(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "overlay.png"
    prompts = ("--point", "225,130", "--point", "40,40,0", "--box", "20,15,362,511")
    done = invoke("predict", TARGET, str(PHOTOGRAPH), *prompts, "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["predictions"]
    assert found["points"] == [[225, 130, 1], [40, 40, 0]]
    assert found["box"] == [20, 15, 362, 511]
    assert out.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "overlay.mask.png").is_file()


def test_a_wrong_prompt_is_told(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "overlay.png"
    done = invoke("predict", TARGET, str(PHOTOGRAPH), "--point", "600,10", "--out", str(out))
    assert done.returncode == 2, done.stderr
    assert "outside" in done.stderr
    assert not out.exists()


def test_a_wrong_picture_is_told(built: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.jpg"
    wrong.write_text("<html>")
    for picture in (wrong, tmp_path / "missing.jpg"):
        done = invoke("predict", TARGET, str(picture), "--point", "1,1")
        assert done.returncode == 2, done.stderr
        assert picture.name in done.stderr


def test_an_edited_graph_is_refused_and_restored(built: Path) -> None:
    path = built / TARGET / "encoder.onnx"
    path.chmod(0o644)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert invoke("verify", TARGET).returncode == 6
    assert invoke("predict", TARGET, str(PHOTOGRAPH), "--point", "1,1").returncode == 6
    done = invoke("build", TARGET)
    assert "was restored" in done.stderr
    assert path.read_bytes() == whole


def test_the_report_is_one_page(built: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert invoke("report", TARGET, "--out", str(page)).returncode == 0
    text = page.read_text()
    assert "random weights: this mask means nothing" in text
    assert "image_embed" in text
    assert 'src="http' not in text
