"""The stage quantize: files by files, and the same bytes again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from exporters.graphs.sessions import Session
from exporters.protocol import StageError
from tests.quantize.small_nets import (
    make_encoder,
    make_picture,
)
from tests.quantize.small_steps import (
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
    encoder: Path, pictures: list[Path], calibration: Mapping[str, Any], tmp_path: Path
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
        plain, *_ = run_quantize(tmp_path / mode, encoder, None, mode=mode, opset=opset)
        ours, *_ = run_quantize(tmp_path / f"{mode}-beside", beside, None, mode=mode, opset=opset)
        assert np.array_equal(run_graph(ours, make_picture(3)), run_graph(plain, make_picture(3)))


def test_a_graph_without_layers_is_refused(
    encoder: Path, calibration: Mapping[str, Any], tmp_path: Path
) -> None:
    model = make_encoder()
    assert len(model.graph.node)
    with pytest.raises(StageError, match="no layer to quantize") as caught:
        run_quantize(tmp_path, encoder, calibration, op_types=[])
    assert "not among the operators" in caught.value.why
