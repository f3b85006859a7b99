"""The stage quantize: files by files, and the same bytes again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from exporters.graphs.sessions import Session
from exporters.protocol import StageError
from tests.quantize.loud_net import OVERFLOWING, write_loud
from tests.quantize.small_nets import (
    make_encoder,
    make_picture,
)
from tests.quantize.small_steps import (
    relative_error,
    run_calibrate,
    run_graph,
    run_quantize,
)


def test_the_same_bytes_again(encoder: Path, pictures: list[Path], tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        calibration = run_calibrate(tmp_path / name, encoder, pictures)
        graph, *_ = run_quantize(tmp_path / name, encoder, calibration)
        files.append(graph.read_bytes())
    assert files[0] == files[1]


def test_weights_in_a_file_beside_the_graph(
    encoder: Path,
    pictures: list[Path],
    calibration: Mapping[str, Any],
    magnitudes: Mapping[str, Any],
    tmp_path: Path,
) -> None:
    """As the giant's are; inputs of a step are links into the store."""
    stored, inputs = tmp_path / "stored", tmp_path / "inputs"
    stored.mkdir()
    inputs.mkdir()
    onnx.save(
        onnx.load(encoder),
        stored / "graph",
        save_as_external_data=True,
        location="encoder.onnx.data",
        size_threshold=64,
    )
    (stored / "encoder.onnx.data").rename(stored / "weights")
    (inputs / "encoder.onnx").symlink_to(stored / "graph")
    (inputs / "encoder.onnx.data").symlink_to(stored / "weights")
    beside = inputs / "encoder.onnx"
    whole = Session(encoder, 1).run({"image": make_picture(3)})
    assert np.array_equal(
        Session(beside, 1).run({"image": make_picture(3)})["tokens"], whole["tokens"]
    )
    for method in ("max", "entropy"):
        found = run_calibrate(tmp_path / method, beside, pictures, calib_method=method)
        if method == "max":
            assert found == calibration
    expected, *_ = run_quantize(tmp_path / "whole", encoder, calibration)
    ours, *_ = run_quantize(tmp_path / "beside", beside, calibration)
    assert ours.read_bytes() == expected.read_bytes()
    for mode in ("int8-dynamic", "fp16"):
        opset = 19 if mode == "fp16" else 18
        seen = magnitudes if mode == "fp16" else None
        plain, *_ = run_quantize(tmp_path / mode, encoder, seen, mode=mode, opset=opset)
        ours, *_ = run_quantize(tmp_path / f"{mode}-beside", beside, seen, mode=mode, opset=opset)
        assert np.array_equal(run_graph(ours, make_picture(3)), run_graph(plain, make_picture(3)))


def test_a_graph_without_layers_is_refused(
    encoder: Path, calibration: Mapping[str, Any], tmp_path: Path
) -> None:
    model = make_encoder()
    assert len(model.graph.node)
    with pytest.raises(StageError, match="no layer to quantize") as caught:
        run_quantize(tmp_path, encoder, calibration, op_types=[])
    assert "not among the operators" in caught.value.why


def test_what_float16_cannot_hold_stays_in_float32(pictures: list[Path], tmp_path: Path) -> None:
    graph = write_loud(tmp_path / "fp32", loud=1e5)
    found = run_calibrate(tmp_path / "seen", graph, pictures, observe="tensors")
    largest = found["largest"]["encoder"]
    assert min(largest["louder"], largest["loudest"]) > 65504 > 100 * largest["back"]
    picture = make_picture(7)
    expected = run_graph(graph, picture)

    blind = {**found, "largest": {"encoder": dict.fromkeys(largest, 1.0)}}
    half = {"mode": "fp16", "opset": 19}
    without, document, _ = run_quantize(tmp_path / "without", graph, blind, **half)
    assert not np.isfinite(run_graph(without, picture)).all()
    assert document["graphs"]["encoder"]["float16"]["kept"] == []

    checked, document, _ = run_quantize(tmp_path / "checked", graph, found, **half)
    onnx.checker.check_model(onnx.load(checked), full_check=True)
    assert 0 < relative_error(expected, run_graph(checked, picture)) < 0.005
    said = document["graphs"]["encoder"]["float16"]
    assert [one["node"] for one in said["kept"]] == sorted(OVERFLOWING)
    assert [one["tensor"] for one in said["close"]] == ["loudest", "louder", "loud.w"]
    assert not any(one["float16"] for one in said["close"])
    assert said["largest"] == {"tensor": "loudest", "largest": largest["loudest"]}
    types = {
        one.name: one.type.tensor_type.elem_type for one in onnx.load(checked).graph.value_info
    }
    assert types["high"] == types["low"] == onnx.TensorProto.FLOAT16


@pytest.mark.parametrize("mode", ["int8", "fp8"])
def test_integers_around_such_values_stay_in_float32_too(
    pictures: list[Path], tmp_path: Path, mode: str
) -> None:
    graph = write_loud(tmp_path / "fp32", loud=1e5)
    found = run_calibrate(tmp_path / "seen", graph, pictures, observe="tensors")
    precision = {"mode": mode, "opset": 21}
    made, document, _ = run_quantize(tmp_path / "made", graph, found, dtype="fp16", **precision)
    # As good as with float32 around, whose scales lose nothing.
    plain, *_ = run_quantize(tmp_path / "plain", graph, found, layout="explicit", **precision)
    picture = make_picture(7)
    exact, wanted, outputs = (
        run_graph(one, picture, session__disable_quant_qdq="1") for one in (graph, plain, made)
    )
    assert 0 < relative_error(exact, outputs) < 2 * relative_error(exact, wanted) < 0.2
    model = onnx.load(made)
    types = {one.name: one.type.tensor_type.elem_type for one in model.graph.value_info}
    writers = {name: node for node in model.graph.node for name in node.output}
    (back,) = (node for node in model.graph.node if node.name == "back")
    for name in back.input:
        assert writers[name].op_type == "DequantizeLinear"
        assert types[name] == onnx.TensorProto.FLOAT
    kept = {one["node"] for one in document["graphs"]["encoder"]["float16"]["kept"]}
    assert kept >= {*OVERFLOWING, "moved_q", "moved_dq", "back_w"}


def test_what_comes_close_is_named_and_becomes_float16(
    pictures: list[Path], tmp_path: Path
) -> None:
    plain = run_calibrate(
        tmp_path / "plain", write_loud(tmp_path / "a"), pictures, observe="tensors"
    )
    tall = 40000 / plain["largest"]["encoder"]["high"]
    graph = write_loud(tmp_path / "b", tall=tall)
    found = run_calibrate(tmp_path / "seen", graph, pictures, observe="tensors")
    made, document, _ = run_quantize(tmp_path / "made", graph, found, mode="fp16", opset=19)
    said = document["graphs"]["encoder"]["float16"]
    assert said["close"] == [{"tensor": "high", "largest": pytest.approx(40000), "float16": True}]
    assert (said["kept"], said["limit"]) == ([], 65504)
    expected = run_graph(graph, make_picture(7))
    assert 0 < relative_error(expected, run_graph(made, make_picture(7))) < 0.005


def test_float16_needs_a_calibration_that_looked(
    encoder: Path, calibration: Mapping[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(StageError, match="range of encoder is not known"):
        run_quantize(tmp_path, encoder, calibration, dtype="fp16", opset=19)
