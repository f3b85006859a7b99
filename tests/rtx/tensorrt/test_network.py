"""What TensorRT's parser makes of ONNX files."""

from pathlib import Path
from typing import Any

import pytest

from exporters.protocol import StageError
from exporters.tensorrt.network import Layer, Network, Tensor, count_types
from tests.rtx.small_graphs import REFUSED, WIDTH, write_fp16, write_fp32


def test_a_network_has_names_types_dims_and_layers(trt: Any, tmp_path: Path) -> None:
    network = Network(trt, write_fp16(tmp_path / "small.onnx"), "small.onnx")
    assert network.inputs == [Tensor(name="x", dtype="float32", dims=(-1, WIDTH))]
    assert network.outputs == [Tensor(name="y", dtype="float32", dims=(-1, WIDTH))]
    counts = count_types(network.layers)
    assert counts["MATRIX_MULTIPLY"] == {"float16": 2}
    assert counts["CAST"] == {"float16": 1, "float32": 1}
    names = {one.name for one in network.layers if one.kind == "MATRIX_MULTIPLY"}
    assert names == {"/first/MatMul", "/second/MatMul"}


def test_a_fixed_input_fixes_what_follows(trt: Any, tmp_path: Path) -> None:
    network = Network(trt, write_fp32(tmp_path / "small.onnx"), "small.onnx")
    network.fix("x", (5, WIDTH))
    assert network.inputs[0].dims == network.outputs[0].dims == (5, WIDTH)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_parser_refuses_is_told_in_its_words_and_ours(
    kind: str, trt: Any, tmp_path: Path
) -> None:
    make, theirs, ours = REFUSED[kind]
    with pytest.raises(StageError) as caught:
        Network(trt, make(tmp_path / "odd.onnx"), "odd.onnx")
    assert caught.value.what == "TensorRT's parser does not take the graph odd.onnx."
    assert theirs in caught.value.why
    assert ours in caught.value.why + caught.value.next
    assert "cudaError" not in caught.value.why


def test_types_are_counted_by_kind() -> None:
    layers = [Layer(name=n, kind=k, dtype=d) for n, k, d in ("aKf", "bKf", "cKh", "dLf")]
    assert count_types(iter(layers)) == {"K": {"f": 2, "h": 1}, "L": {"f": 1}}
