"""A family that the repository does not know: a folder of files, built like any other.

tests/squeezenet/ has its models, its contract with a parameter of its own, and its part of each
stage, the picture of `predict` among them.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.paths import REPOSITORY
from tests.full_size.test_tiny import invoke as run_command

pytestmark = pytest.mark.full_size

FAMILY = REPOSITORY / "tests" / "squeezenet"
TARGET = "squeezenet1_1+random0/classes/onnx-fp32"
LARGER = "squeezenet1_1+random0/classes@side96/onnx-fp32"
PHOTOGRAPH = REPOSITORY / "catalog" / "pictures" / "coffee.jpg"

Invoke = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("added") / "artifacts"


@pytest.fixture(scope="module")
def invoke(artifacts: Path) -> Invoke:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return run_command(
            *arguments,
            MODELKILN_ARTIFACTS=str(artifacts),
            MODELKILN_CATALOG=str(FAMILY),
        )

    return run


@pytest.fixture(scope="module")
def built(invoke: Invoke, artifacts: Path) -> Path:
    """The folder of results, with two sides built in one command."""
    done = invoke("build", TARGET, "--side", "64,96")
    assert done.returncode == 0, done.stderr
    return artifacts / "out"


def test_nothing_else_knows_it() -> None:
    rooms = ("modelkiln", "exporters", "catalog", "docker", "patches")
    files = [one for room in rooms for one in (REPOSITORY / room).rglob("*") if one.is_file()]
    assert len(files) > 100
    for path in (REPOSITORY / "tasks.py", *files):
        if path.suffix in (".py", ".toml", ".j2", ".json"):
            assert "squeezenet" not in path.read_text(encoding="utf-8").lower(), path


def test_its_parameter_is_a_flag_and_its_targets_are_listed(invoke: Invoke) -> None:
    assert "SqueezeNet's pictures, in pixels" in " ".join(invoke("--help", "build").stdout.split())
    assert "squeezenet1_1/classes/onnx-fp32" in invoke("targets").stdout
    done = invoke("plan", TARGET, "--side", "65")
    assert done.returncode == 2
    assert "side cannot be '65'" in done.stderr
    assert "The contract allows 64, 96." in done.stderr


def test_it_is_built_and_verified_for_each_value(built: Path) -> None:
    for target, side in ((TARGET, 64), (LARGER, 96)):
        manifest = json.loads((built / target / "manifest.json").read_text())
        assert manifest["parameters"]["side"] == side
        assert manifest["weights"]["warning"] == "random weights: this class means nothing"
        (worst,) = manifest["verification"]["worst"].values()
        assert 0 < worst["relative"] <= 1e-5
        assert (built / target / "classifier.onnx").stat().st_size > 2_000_000


def test_it_is_verified_again_and_inspected(invoke: Invoke, built: Path) -> None:
    done = invoke("verify", f"{TARGET},{LARGER}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok  squeezenet1_1") == 2
    told = invoke("inspect", LARGER).stdout
    assert "float32 [batch, 3, 96, 96]" in told
    assert "float32 [batch, 12]" in told


def test_it_draws_its_own_picture(invoke: Invoke, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "classes.png"
    done = invoke("predict", TARGET, str(PHOTOGRAPH), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("class ")
    assert "random weights: this class means nothing" in done.stdout
    assert out.read_bytes().startswith(b"\x89PNG")
    assert [one.name for one in tmp_path.iterdir()] == ["classes.png"]
    told = json.loads(
        invoke("predict", TARGET, str(PHOTOGRAPH), "--out", str(out), "--json").stdout
    )
    assert sum(told["shares"]) == pytest.approx(1)


def test_a_prompt_is_refused(invoke: Invoke, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "classes.png"
    done = invoke("predict", TARGET, str(PHOTOGRAPH), "--point", "1,1", "--out", str(out))
    assert done.returncode == 2
    assert "takes no prompts" in done.stderr
    assert not out.exists()


def test_its_report_is_a_page(invoke: Invoke, built: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert invoke("report", TARGET, "--out", str(page)).returncode == 0
    assert "random weights: this class means nothing" in page.read_text()
