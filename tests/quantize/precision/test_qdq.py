"""The stages calibrate and quantize on a small network, beside ModelOpt's own API."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from modelopt.onnx.quantization import quantize as modelopt_quantize
from onnx import TensorProto, numpy_helper

from exporters.precision.calibration import PictureReader, resample_of
from exporters.protocol import StageError
from tests.quantize.small_nets import (
    LINEARS,
    SIDE,
    make_picture,
)
from tests.quantize.small_steps import (
    PREPROCESSING,
    count_kernels,
    relative_error,
    run_graph,
    run_quantize,
)

FP8 = {"mode": "fp8", "layout": "explicit", "opset": 21}


PLAIN_QDQ = {"session__disable_quant_qdq": "1"}


def read_arrays(path: Path) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


@pytest.fixture(scope="module")
def by_modelopt(
    encoder: Path, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What ModelOpt's API makes of the same layers and pictures."""
    folder = tmp_path_factory.mktemp("modelopt")
    model = onnx.load(encoder)
    for node in model.graph.node:
        node.name = node.output[0]
    source = folder / "encoder.onnx"
    onnx.save(model, source)
    reader = PictureReader(
        {path.name: path for path in pictures},
        height=SIDE,
        width=SIDE,
        resample=resample_of(PREPROCESSING),
        count=len(pictures),
    )
    modelopt_quantize(
        os.fspath(source),
        quantize_mode="int8",
        calibration_method="max",
        calibration_data={"image": np.concatenate([one for _, one in reader])},
        calibration_eps=["cpu"],
        op_types_to_quantize=["MatMul", "Gemm"],
        nodes_to_quantize=list(LINEARS),
        high_precision_dtype="fp32",
        mha_accumulation_dtype="fp32",
        enable_gemv_detection_for_trt=False,
        output_path=os.fspath(folder / "quantized.onnx"),
        log_level="ERROR",
    )
    return folder / "quantized.onnx"


def test_scales_are_modelopts_max(calibration: Mapping[str, Any], by_modelopt: Path) -> None:
    theirs = read_arrays(by_modelopt)
    ranges = calibration["graphs"]["encoder"]
    assert sorted(ranges) == ["active", "attended", "flat_rows", "normed", "residual"]
    for name, largest in ranges.items():
        assert largest * 2 / 254 == pytest.approx(float(theirs[f"{name}_scale"]), rel=1e-6)


def test_the_explicit_layout_is_modelopts_graph_with_folded_weights(
    encoder: Path, calibration: Mapping[str, Any], by_modelopt: Path, tmp_path: Path
) -> None:
    theirs = read_arrays(by_modelopt)
    # To the last bit, so that outputs can be compared so.
    ranges = {
        name: float(theirs[f"{name}_scale"]) * 127 for name in calibration["graphs"]["encoder"]
    }
    ours, document, _ = run_quantize(
        tmp_path, encoder, {**calibration, "graphs": {"encoder": ranges}}, layout="explicit"
    )
    mine = read_arrays(ours)
    for name in LINEARS:
        assert np.array_equal(mine[f"{name}_w_scale"], theirs[f"{name}.w_scale"])
        assert mine[f"{name}_w_q"].dtype == np.int8
    for seed in range(3):
        picture = make_picture(seed)
        assert np.array_equal(run_graph(ours, picture), run_graph(by_modelopt, picture))
    assert document["graphs"]["encoder"]["quantized"] == len(LINEARS)
    biases = [
        one for one in onnx.load(ours).graph.initializer if one.data_type == TensorProto.INT32
    ]
    assert not biases


def test_folded_weights_change_no_bit(
    encoder: Path, calibration: Mapping[str, Any], tmp_path: Path
) -> None:
    folded, *_ = run_quantize(tmp_path / "a", encoder, calibration, layout="explicit")
    chained, *_ = run_quantize(
        tmp_path / "b", encoder, calibration, layout="explicit", qdq_for_weights=True
    )
    # The file as it would be unfolded: float weights behind Q and DQ.
    model = onnx.load(folded)
    arrays = {one.name: one for one in model.graph.initializer}
    float_weights = read_arrays(encoder)
    nodes = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0].endswith("_w_q"):
            layer = node.input[0].removesuffix("_w_q")
            arrays.pop(node.input[0])
            arrays[f"{layer}.float"] = numpy_helper.from_array(
                float_weights[f"{layer}.w"], f"{layer}.float"
            )
            quantized = onnx.helper.make_node(
                "QuantizeLinear", [f"{layer}.float", *node.input[1:]], [node.input[0]]
            )
            quantized.attribute.extend(node.attribute)
            nodes.append(quantized)
        nodes.append(node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(arrays.values())
    model.graph.node.extend(nodes)
    unfolded = tmp_path / "unfolded.onnx"
    onnx.save(model, unfolded)
    assert folded.stat().st_size < 0.6 * unfolded.stat().st_size
    assert chained.stat().st_size < 0.8 * unfolded.stat().st_size
    for seed in range(3):
        picture = make_picture(seed)
        expected = run_graph(unfolded, picture)
        assert np.array_equal(run_graph(folded, picture), expected)
        assert np.array_equal(run_graph(chained, picture), expected)


@pytest.mark.parametrize("qdq", [False, True])
def test_every_linear_runs_in_integers(
    encoder: Path, calibration: Mapping[str, Any], tmp_path: Path, qdq: bool
) -> None:
    quantized, document, result = run_quantize(tmp_path, encoder, calibration, qdq_for_weights=qdq)
    figures = result.metrics["graphs"]["encoder"]
    assert (figures["opset"], figures["bytes"]) == (18, quantized.stat().st_size)
    assert figures["ops"]["Gemm"] == 5
    found = document["graphs"]["encoder"]
    assert (found["linears"], found["quantized"], found["integer_kernels"]) == (5, 5, 5)
    assert {one["op"] for one in found["left_out"]} == {"Conv"}
    kernels = count_kernels(quantized)
    assert kernels["QGemm"] == 5
    # The two products of attention and the table stay in float32.
    assert kernels["MatMul"] + kernels["FusedMatMul"] == 2
    expected = run_graph(encoder, make_picture(7))
    assert 0 < relative_error(expected, run_graph(quantized, make_picture(7))) < 0.05


def test_float_biases_would_run_in_float(
    encoder: Path, calibration: Mapping[str, Any], tmp_path: Path
) -> None:
    """The trap that the layout for onnxruntime avoids."""
    explicit, document, _ = run_quantize(tmp_path, encoder, calibration, layout="explicit")
    assert document["graphs"]["encoder"]["integer_kernels"] == 0
    # onnxruntime mends the one Gemm; a MatMul and its Add become one too late for that.
    assert count_kernels(explicit)["QGemm"] == 1


def test_both_layouts_have_equal_scales(
    encoder: Path, calibration: Mapping[str, Any], tmp_path: Path
) -> None:
    documents, graphs = [], []
    for layout in ("onnxruntime", "explicit"):
        graph, document, _ = run_quantize(tmp_path / layout, encoder, calibration, layout=layout)
        documents.append(document["graphs"]["encoder"]["layers"])
        graphs.append(read_arrays(graph))
    assert documents[0] == documents[1]
    for name in LINEARS:
        for part in ("w_q", "w_scale"):
            assert np.array_equal(graphs[0][f"{name}_{part}"], graphs[1][f"{name}_{part}"])
        assert f"{name}_b_q" in graphs[0]
        assert f"{name}_b_q" not in graphs[1]


def test_fp8_is_valid_and_runs(
    encoder: Path, calibration: Mapping[str, Any], tmp_path: Path
) -> None:
    quantized, document, _ = run_quantize(tmp_path, encoder, calibration, **FP8)
    model = onnx.load(quantized)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 21
    assert document["graphs"]["encoder"]["quantized"] == 5
    kinds = Counter(one.data_type for one in model.graph.initializer)
    assert kinds[TensorProto.FLOAT8E4M3FN] == 5 + 5 + 5  # weights, their zeros, activations' zeros
    expected = run_graph(encoder, make_picture(7))
    found = run_graph(quantized, make_picture(7), **PLAIN_QDQ)
    assert 0 < relative_error(expected, found) < 0.1


def test_fp8_values_are_those_of_the_type(
    encoder: Path, calibration: Mapping[str, Any], tmp_path: Path
) -> None:
    quantized, *_ = run_quantize(tmp_path, encoder, calibration, **FP8)
    arrays = read_arrays(quantized)
    weight = read_arrays(encoder)["qkv.w"]
    back = arrays["qkv_w_q"].astype(np.float32) * arrays["qkv_w_scale"]
    # Three bits of mantissa: half a step is a sixteenth.
    big = np.abs(weight) > np.abs(weight).max() / 100
    assert np.all(np.abs(back - weight)[big] <= np.abs(weight)[big] / 16 + 1e-7)
    assert np.abs(arrays["qkv_w_q"].astype(np.float32)).max() == 448


def test_a_range_that_is_missing_is_an_error(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="has no range"):
        run_quantize(tmp_path, encoder, {"method": "max", "graphs": {"encoder": {"normed": 1.0}}})
