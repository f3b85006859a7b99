"""The kernels that ran are seen."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporters.checks.kernels import count_kernels
from exporters.graphs.sessions import run_kernels
from tests.quantize.assess_case import NO_FAULTS, WIDTHS, Case


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net")
    onnx.save_model(Case(folder / "case").quantize(NO_FAULTS), folder / "net.onnx")
    return folder / "net.onnx"


INPUTS = {"x": np.ones((2, WIDTHS[0]), np.float32)}


def test_a_profile_tells_which_kernels_ran_and_leaves_no_file(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ran = run_kernels(net, 1, INPUTS)
    assert Counter(operator for operator, _ in ran)["QGemm"] == 3
    assert all(name for _, name in ran)
    assert list(tmp_path.iterdir()) == []
    counted = count_kernels(net, 1, INPUTS)
    assert (counted["integer"], counted["names"]) == (3, {"QGemm": 3})
