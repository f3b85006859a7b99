"""What the tracker's files hold, before and after others optimize them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from exporters.graphs.sessions import Session
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


def _drawn_memory(contract: str) -> dict[str, NDArray[Any]]:
    """What memory attention takes: two objects where it may, two frames and three pointers."""
    random = np.random.default_rng(0)
    (golden,) = (one for one in shrink(contract)["graphs"] if one["name"] == "memory_attention")
    sizes = {"batch": 2, "num_frames": 2, "buff_size": 2, "num_pointers": 3, "num": 3}
    sizes["buff_size_embed"] = 2 * CELLS + 3 * 4
    drawn: dict[str, NDArray[Any]] = {}
    for value in golden["inputs"]:
        dims = [sizes.get(dim, dim) for dim in value["dims"]]
        drawn[value["name"]] = np.asarray(random.standard_normal(dims), np.float32)
    if "frames_ago" in drawn:
        drawn["frames_ago"] = random.integers(0, 7, drawn["frames_ago"].shape)
        drawn["obj_ptr_positions"] = np.abs(drawn["obj_ptr_positions"])
    return drawn


@pytest.mark.parametrize("contract", CONTRACTS)
def test_attention_in_one_piece_is_the_same_in_fewer_products(
    contract: str, trackers: Trackers
) -> None:
    """Of the two attentions of each of four layers, one comes in four parts."""
    files = [one(contract)["memory_attention.onnx"] for one in (trackers.graphs, trackers.whole)]
    split, whole = (count_ops(onnx.load_model(path)) for path in files)
    assert whole["Softmax"] == 2 * 4
    assert split["MatMul"] - whole["MatMul"] == 4 * 3 * 2
    assert split["Softmax"] - whole["Softmax"] == 4 * 3
    inputs = _drawn_memory(contract)
    one, other = (Session(path, 1).run(inputs)["image_embed"] for path in files)
    assert one.shape == other.shape and one.std() > 0.1
    # Rounded differently in four layers, for products of other shapes are summed in other orders.
    assert np.abs(one - other).max() <= 2e-6 * np.abs(one).max()


def test_another_process_with_other_threads_writes_the_same_bytes(trackers: Trackers) -> None:
    first, second = trackers.graphs("tracker"), trackers.graphs_anew("tracker", threads=2)
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes(), name
