"""Graphs under check: what they are given, what is kept of it, and what fails."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from exporters.checks.runtime import Runtime
from exporters.protocol import NOT_VERIFIED, StageError
from tests.exporters.graphs.models import make_model


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """One graph, which takes x [batch, 4]."""
    onnx.save_model(make_model(), tmp_path / "encoder.onnx")
    return Runtime({"encoder": tmp_path / "encoder.onnx"}, 1)


def _rows(count: int, value: float = 1.0) -> NDArray[np.float32]:
    return np.full((count, 4), value, np.float32)


def test_a_graph_is_given_the_inputs_that_it_knows(runtime: Runtime) -> None:
    outputs = runtime.run("encoder", {"x": _rows(2), "another graph's": _rows(9)})
    assert outputs["y"].shape == (2, 2, 2)
    assert set(runtime.samples["encoder"]) == {"x"}


def test_the_sample_is_of_one_picture(runtime: Runtime) -> None:
    for count in (3, 1, 2):
        runtime.run("encoder", {"x": _rows(count)})
        assert len(runtime.samples["encoder"]["x"]) == min(count, 3 if count == 3 else 1)
    assert runtime.describe_times()["encoder"]["runs"] == 3


def test_what_is_no_number_is_noted_with_its_shapes(runtime: Runtime) -> None:
    runtime.run("encoder", {"x": _rows(1)})
    assert runtime.strange == []
    runtime.run("encoder", {"x": _rows(2, np.inf)})
    assert runtime.strange == ["encoder: y on x [2, 4]"]


def test_a_run_that_fails_is_not_verified(runtime: Runtime) -> None:
    with pytest.raises(StageError, match=r"cannot run the graph encoder on x \[2, 5\]") as failure:
        runtime.run("encoder", {"x": np.ones((2, 5), np.float32)})
    assert failure.value.exit_code == NOT_VERIFIED
    assert failure.value.why.startswith("ONNX Runtime says: ")


def test_a_graph_that_cannot_be_loaded_is_not_verified(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(StageError, match="cannot load the graph bad") as failure:
        Runtime({"bad": tmp_path / "bad.onnx"}, 1)
    assert failure.value.exit_code == NOT_VERIFIED
