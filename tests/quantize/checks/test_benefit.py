"""What a smaller graph gains."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.checks.benefit import peak_memory
from exporters.protocol import StageError
from tests.quantize.assess_case import NO_FAULTS, OPSET, WIDTHS, Case


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net")
    onnx.save_model(Case(folder / "case").quantize(NO_FAULTS), folder / "net.onnx")
    return folder / "net.onnx"


INPUTS = {"x": np.ones((2, WIDTHS[0]), np.float32)}


def test_memory_is_that_of_the_graph_alone(net: Path, tmp_path: Path) -> None:
    """Neither Python's and onnxruntime's own in the child, nor what this process holds."""
    held = np.ones(1 << 25)  # 256 MiB
    assert 0 < peak_memory(net, INPUTS, 1) < 1 << 25
    weights = numpy_helper.from_array(np.ones((2048, 4096), np.float32), "w")
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width])
        for name, width in (("x", 2048), ("y", 4096))
    }
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "heavy", [values["x"]], [values["y"]], [weights])
    opset = helper.make_opsetid("", OPSET)
    heavy = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.save_model(heavy, tmp_path / "heavy.onnx")
    inputs = {"x": np.ones((1, 2048), np.float32)}
    assert 1 << 25 < peak_memory(tmp_path / "heavy.onnx", inputs, 1) < 1 << 27
    assert held.nbytes == 1 << 28


def test_memory_that_cannot_be_measured_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="could not be measured"):
        peak_memory(tmp_path / "missing.onnx", INPUTS, 1)
