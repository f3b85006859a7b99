"""The mixer family in every ONNX format, built once for all tests that need it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.full_size.mixer import FAMILY, FORMATS
from tests.full_size.test_tiny import invoke as run_command

Invoke = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def mixer_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gates") / "artifacts"


@pytest.fixture(scope="session")
def mixer(mixer_artifacts: Path) -> Invoke:
    def run(*arguments: str, catalogs: str = str(FAMILY)) -> "subprocess.CompletedProcess[str]":
        return run_command(
            *arguments,
            MODELKILN_ARTIFACTS=str(mixer_artifacts),
            MODELKILN_CATALOG=catalogs,
        )

    return run


@pytest.fixture(scope="session")
def mixer_weights(
    mixer: Invoke, mixer_artifacts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Weights of one's own: what random ones came to, as a file."""
    target = "mixer_small+random0/tokens/onnx-fp32"
    done = mixer("build", target, "--until", "ingest")
    assert done.returncode == 0, done.stderr
    (blob,) = (path for path in (mixer_artifacts / "cas").rglob("*") if path.is_file())
    file = tmp_path_factory.mktemp("own") / "mixer.safetensors"
    shutil.copyfile(blob, file)
    return file


@pytest.fixture(scope="session")
def mixer_built(mixer: Invoke, mixer_artifacts: Path, mixer_weights: Path) -> Path:
    """Every format, in one command."""
    targets = ",".join(f"mixer_small/tokens/{one}" for one in ("onnx-fp32", *FORMATS))
    done = mixer("build", targets, "--weights", str(mixer_weights))
    assert done.returncode == 0, done.stderr
    (folder,) = (mixer_artifacts / "out").iterdir()
    return folder / "tokens"
