"""Which layers are quantized, and how they are written, where that is not as usual."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporters.precision.layers import find_layers
from tests.quantize.small_nets import make_encoder, make_picture
from tests.quantize.small_steps import (
    count_kernels,
    relative_error,
    run_calibrate,
    run_graph,
    run_quantize,
)


def test_convolutions_on_request(encoder: Path, pictures: list[Path], tmp_path: Path) -> None:
    both = ["MatMul", "Conv"]
    calibration = run_calibrate(tmp_path, encoder, pictures, op_types=both)
    quantized, document, _ = run_quantize(tmp_path, encoder, calibration, op_types=both)
    found = document["graphs"]["encoder"]
    assert (found["linears"], found["quantized"], found["convolutions"]) == (5, 5, 1)
    (left,) = found["left_out"]
    assert (left["node"], left["reason"]) == (
        "patches",
        "a convolution of 3 input channels has no integer kernel",
    )
    kernels = count_kernels(quantized)
    assert kernels["QGemm"] == 5
    assert found["integer_kernels"] == 5
    expected = run_graph(encoder, make_picture(7))
    assert 0 < relative_error(expected, run_graph(quantized, make_picture(7))) < 0.05


def test_convolutions_in_a_row_are_not_taken_for_linears(
    pictures: list[Path], tmp_path: Path
) -> None:
    """The first of two runs in integers, because the second asks for its output so."""
    model = make_encoder()
    nodes = list(model.graph.node)
    values = np.random.default_rng(1).standard_normal((32, 32, 1, 1)).astype(np.float32) / 6
    model.graph.initializer.append(numpy_helper.from_array(values, "again.w"))
    second = helper.make_node("Conv", ["mixed", "again.w"], ["mixed_again"], kernel_shape=[1, 1])
    place = next(index for index, node in enumerate(nodes) if node.output[0] == "rows")
    nodes[place].input[0] = "mixed_again"
    nodes.insert(place, second)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(copies)
    path = tmp_path / "encoder.onnx"
    onnx.save(model, path)
    both = ["MatMul", "Conv"]
    found = run_calibrate(tmp_path / "c", path, pictures, op_types=both)
    quantized, document, _ = run_quantize(tmp_path / "q", path, found, op_types=both)
    plan = document["graphs"]["encoder"]
    assert (plan["quantized"], plan["convolutions"], plan["integer_kernels"]) == (5, 2, 5)
    kernels = count_kernels(quantized)
    assert kernels["QLinearConv"] == 1
    assert kernels["QGemm"] == 5


def test_a_bias_that_a_subgraph_looks_at_stays() -> None:
    """A product whose output is used inside of an If is no MatMul with an Add alone."""
    model = make_encoder()
    (plain,) = (one for one in find_layers(model, ["MatMul"]) if one.output == "proj")
    assert plain.add == "proj_sum"
    inner = helper.make_node("Identity", ["proj"], ["seen"])
    seen = helper.make_tensor_value_info("seen", TensorProto.FLOAT, None)
    branch = helper.make_graph([inner], "branch", [], [seen])
    model.graph.node.append(
        helper.make_node("If", ["chosen"], ["looked"], then_branch=branch, else_branch=branch)
    )
    (watched,) = (one for one in find_layers(model, ["MatMul"]) if one.output == "proj")
    assert watched.add == ""
