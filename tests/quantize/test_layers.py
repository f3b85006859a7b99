"""Which layers are quantized, and how they are written, where that is not as usual."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.checks.parity import LoopCheck
from exporters.checks.quality import CLOSED_LOOP, judge
from exporters.graphs.sessions import CPU
from exporters.precision.layers import find_layers
from exporters.precision.ranges import RangeObserver
from exporters.precision.weights import quantize_channels, scale_of
from exporters.protocol import StageError
from tests.quantize.small_nets import make_encoder, make_picture
from tests.quantize.small_steps import (
    count_kernels,
    relative_error,
    run_calibrate,
    run_graph,
    run_quantize,
)

PLAIN_QDQ = {"session__disable_quant_qdq": "1"}


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


@pytest.mark.parametrize("mode", ["int8", "fp8"])
def test_half_around_integers(
    encoder: Path, calibration: Mapping[str, Any], tmp_path: Path, mode: str
) -> None:
    quantized, document, _ = run_quantize(
        tmp_path, encoder, calibration, mode=mode, dtype="fp16", opset=19 if mode == "int8" else 21
    )
    kinds = Counter(one.data_type for one in onnx.load(quantized).graph.initializer)
    assert kinds[TensorProto.FLOAT16]
    assert not kinds[TensorProto.INT32]
    assert document["graphs"]["encoder"]["integer_kernels"] == 0
    expected = run_graph(encoder, make_picture(7))
    found = run_graph(quantized, make_picture(7), **PLAIN_QDQ)
    assert 0 < relative_error(expected, found) < 0.1


def test_a_range_that_is_missing_is_an_error(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="has no range"):
        run_quantize(tmp_path, encoder, {"method": "max", "graphs": {"encoder": {"normed": 1.0}}})


def test_a_graph_without_layers_is_refused(
    encoder: Path, calibration: Mapping[str, Any], tmp_path: Path
) -> None:
    model = make_encoder()
    assert len(model.graph.node)
    with pytest.raises(StageError, match="no layer to quantize") as caught:
        run_quantize(tmp_path, encoder, calibration, op_types=[])
    assert "not among the operators" in caught.value.why


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


def test_scales_that_become_float16_are_its_numbers_before() -> None:
    weights = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    weights[:, 3] *= 1e-6
    for fp8 in (False, True):
        integers, scales = quantize_channels(weights, 1, fp8=fp8, half=True)
        assert np.array_equal(scales.astype(np.float16).astype(np.float32), scales)
        assert scales.min() >= np.finfo(np.float16).tiny
        back = integers.astype(np.float32) * scales
        wide = np.arange(32) != 3
        bound = np.abs(weights[:, wide]).max(0) / (16 if fp8 else 127)
        assert np.all(np.abs(back - weights)[:, wide] <= bound)
    assert float(np.float16(scale_of(3.3, 127, half=True))) == scale_of(3.3, 127, half=True)
    assert scale_of(3.3, 127, half=True) >= scale_of(3.3, 127)


def test_what_is_no_number_stops_a_calibration(encoder: Path, tmp_path: Path) -> None:
    """onnxruntime's ReduceMax passes over it unless it comes first."""
    observer = RangeObserver(encoder, ["normed", "residual"], tmp_path / "observed", 1, CPU)
    picture = make_picture(0)
    observer.run({"image": picture})
    picture[0, 1, 20, 20] = np.nan
    with pytest.raises(StageError, match="NaN or infinite"):
        observer.run({"image": picture})


@pytest.mark.parametrize("iou", [0.97, 0.99])
def test_the_closed_loop_has_a_gate(iou: float) -> None:
    steps = [
        LoopCheck(
            object=1,
            frame=frame,
            iou=one,
            coverage=0.2,
            bound=0.999,
            counted=True,
            occlusion=5.0,
            expected_occlusion=5.0,
            pointer_cosine=1.0,
            pointer_bound=0.9,
            ok=False,
        )
        for frame, one in enumerate((1.0, iou))
    ]
    (gate,) = judge({"mask_iou": 0.98}, [], steps, "cpu")
    assert (gate.graph, gate.value, gate.ok) == (CLOSED_LOOP, iou, iou > 0.98)
