"""What a format asks of onnxruntime reaches it, and what ran is seen."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.checks.benefit import peak_memory
from exporters.checks.kernels import count_kernels
from exporters.checks.runtime import Runtime
from exporters.graphs.sessions import CPU, CUDA, RuntimeFailure, Session, Sessions, run_kernels
from exporters.protocol import StageError
from tests.quantize.assess_case import NO_FAULTS, OPSET, WIDTHS, Case

LEAVE_ALONE = {"session.disable_quant_qdq": "1"}


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


def test_config_entries_reach_the_session(net: Path) -> None:
    ran = Counter(operator for operator, _ in run_kernels(net, 1, INPUTS, LEAVE_ALONE))
    assert ran["QGemm"] == 0
    assert ran["DequantizeLinear"] > 0
    of_another_format = {"session.load_model_format": "ORT"}
    for config in ({}, LEAVE_ALONE):
        assert Sessions({"net": net}, 1, config).run("net", INPUTS)
    with pytest.raises(RuntimeFailure):
        Session(net, 1, 4, of_another_format)
    with pytest.raises(StageError, match="cannot load"):
        Sessions({"net": net}, 1, of_another_format)
    with pytest.raises(StageError, match="cannot load the graph net"):
        Runtime({"net": net}, 1, of_another_format)


def test_a_provider_that_is_not_there_is_not_replaced(net: Path) -> None:
    """onnxruntime itself goes on with the CPU, and logs that at most."""
    assert Session(net, 1, provider=CPU).run(INPUTS)
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeFailure, match=f"{CUDA} was asked for"):
        Session(net, 1, log_level=4, provider=CUDA)


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
