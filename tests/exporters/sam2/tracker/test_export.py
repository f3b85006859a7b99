"""What the tracker's files hold, before and after others optimize them."""

import math
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from exporters.graphs.structure import count_ops
from tests.exporters.sam2.tracker.models import CONTRACTS, OPSET, Trackers
from tests.exporters.shrunken import SIZE, run_stage, shrink

CELLS = (SIZE // 16) ** 2


def _optimize(path: Path, folder: Path) -> onnx.ModelProto:
    """A graph as onnxruntime leaves it after its extended optimizations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.load_model(folder / "optimized.onnx")


def _used(model: onnx.ModelProto) -> set[str]:
    return {name for node in model.graph.node for name in node.input}


# The second simplifier is tried where inputs do nothing, and so are most easily lost.
@pytest.mark.parametrize(
    ("contract", "simplifier"),
    [(one, "onnxsim") for one in CONTRACTS]
    + [("tracker-sam2.0", "onnxslim"), ("tracker-ex-sam2.0", "onnxslim")],
)
def test_every_declared_input_stays_alive(
    contract: str,
    simplifier: str,
    trackers: Trackers,
    scratch: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    golden = shrink(contract)
    graphs, files = golden["graphs"], trackers.graphs(contract)
    if simplifier != "onnxsim":
        graphs = [graph for graph in graphs if graph["name"] in golden["inert"]]
        assert len(graphs) == 2
        params = {"simplifier": simplifier, "opset": OPSET, "metadata": {}, "graphs": graphs}
        files = {graph["file"]: files[graph["file"]] for graph in graphs}
        done = run_stage(scratch("convert"), "convert", ["exporters.stages.convert"], params, files)
        files = {name: done[name] for name in files}
    for graph in graphs:
        names = [value["name"] for value in graph["inputs"]]
        path = files[graph["file"]]
        for model in (onnx.load_model(path), _optimize(path, tmp_path)):
            assert [value.name for value in model.graph.input] == names
            assert set(names) <= _used(model)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_one_pair_of_tables_turns_every_key(
    contract: str, trackers: Trackers, tmp_path: Path
) -> None:
    path = trackers.graphs(contract)["memory_attention.onnx"]
    stored = onnx.load_model(path).graph.initializer
    # In the file, each of the two is a part for a row and, being square, the same for a column.
    assert [list(one.dims) for one in stored if math.prod(one.dims) == CELLS * 128] == []
    loaded = _optimize(path, tmp_path).graph.initializer
    tables = [one for one in loaded if sorted(one.dims)[-2:] == sorted((128, CELLS))]
    assert len(tables) == 2


@pytest.mark.parametrize("contract", CONTRACTS)
def test_attention_is_real_and_plain(contract: str, trackers: Trackers) -> None:
    for name, path in trackers.graphs(contract).items():
        model = onnx.load_model(path)
        ops = count_ops(model)
        assert not {"If", "OneHot", "ScatterND", "ScatterElements", "GatherND"} & set(ops), name
        kinds = {one.data_type for one in model.graph.initializer}
        kinds |= {one.type.tensor_type.elem_type for one in model.graph.value_info}
        assert not kinds & {TensorProto.COMPLEX64, TensorProto.COMPLEX128}, name
    ops = count_ops(onnx.load_model(trackers.graphs(contract)["memory_attention.onnx"]))
    # Two projections and a mean of each attention; of eight, four are done in four parts.
    assert ops["Softmax"] == 4 + 4 * 4
    # A static bank takes nothing from empty slots: of four inputs, and of what it makes of them.
    assert ops.get("Where", 0) == (5 if "static" in contract else 0)
    assert ops.get("Shape", 0) <= (0 if "static" in contract else 2)


def test_another_process_with_other_threads_writes_the_same_bytes(trackers: Trackers) -> None:
    first, second = trackers.graphs("tracker"), trackers.graphs_anew("tracker", threads=2)
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes(), name
