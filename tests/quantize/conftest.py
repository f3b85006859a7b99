"""A small network, pictures, and its calibration, made once for all tests."""

import os
from pathlib import Path
from typing import Any

import pytest

# Of small networks a second thread does little but wait, and burns a core at that.
os.environ["OMP_NUM_THREADS"] = "1"

from tests.quantize.small_nets import write_encoder, write_pictures
from tests.quantize.small_steps import run_calibrate


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("fp32"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 4)


@pytest.fixture(scope="session")
def calibration(
    encoder: Path, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    return run_calibrate(tmp_path_factory.mktemp("calibrated"), encoder, pictures)


@pytest.fixture(scope="session")
def magnitudes(
    encoder: Path, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A calibration that looked at all values, as graphs with float16 need it."""
    folder = tmp_path_factory.mktemp("observed")
    return run_calibrate(folder, encoder, pictures, observe="tensors")
