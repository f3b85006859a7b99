"""Graphs in float16 keep their outputs, and norms as they are."""

import copy
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from modelopt.onnx.autocast import convert_to_f16
from onnx import TensorProto

from exporters.graphs.structure import name_nodes
from exporters.precision.half import KEPT_IN_FLOAT32, halve
from tests.quantize.small_nets import (
    make_picture,
)
from tests.quantize.small_steps import (
    relative_error,
    run_graph,
    run_quantize,
)


def test_half_keeps_outputs_and_norms(
    encoder: Path, magnitudes: Mapping[str, Any], tmp_path: Path
) -> None:
    halved, document, _ = run_quantize(tmp_path, encoder, magnitudes, mode="fp16", opset=19)
    model = onnx.load(halved)
    onnx.checker.check_model(model, full_check=True)
    io = [*model.graph.input, *model.graph.output]
    assert {one.type.tensor_type.elem_type for one in io} == {TensorProto.FLOAT}
    types = {one.name: one.type.tensor_type.elem_type for one in model.graph.value_info}
    for node in model.graph.node:
        if node.op_type in ("LayerNormalization", "Softmax"):
            assert types[node.output[0]] == TensorProto.FLOAT
        if node.op_type == "MatMul":
            assert types[node.output[0]] == TensorProto.FLOAT16
    assert halved.stat().st_size < 0.75 * encoder.stat().st_size
    expected = run_graph(encoder, make_picture(7))
    assert 0 < relative_error(expected, run_graph(halved, make_picture(7))) < 0.005
    assert document["graphs"]["encoder"]["quantized"] == 0


def test_without_nodes_that_stay_it_is_modelopts_own(encoder: Path) -> None:
    model = onnx.version_converter.convert_version(onnx.load(encoder), 19)
    name_nodes(model)
    expected = convert_to_f16(
        copy.deepcopy(model), op_block_list=list(KEPT_IN_FLOAT32), opset=19
    ).SerializeToString(deterministic=True)
    assert halve(copy.deepcopy(model), 19).SerializeToString(deterministic=True) == expected
    kept = halve(model, 19, ["up"])
    assert kept.SerializeToString(deterministic=True) != expected
    types = {one.name: one.type.tensor_type.elem_type for one in kept.graph.value_info}
    assert (types["down"], types["qkv"]) == (TensorProto.FLOAT16, TensorProto.FLOAT16)
    (up,) = (node for node in kept.graph.node if node.name == "up")
    weights = {one.name: one.data_type for one in kept.graph.initializer}
    assert types[up.output[0]] == weights[up.input[1]] == TensorProto.FLOAT


PLAIN_QDQ = {"session__disable_quant_qdq": "1"}


@pytest.mark.parametrize("mode", ["int8", "fp8"])
def test_half_around_integers(
    encoder: Path, magnitudes: Mapping[str, Any], tmp_path: Path, mode: str
) -> None:
    quantized, document, _ = run_quantize(
        tmp_path, encoder, magnitudes, mode=mode, dtype="fp16", opset=19 if mode == "int8" else 21
    )
    kinds = Counter(one.data_type for one in onnx.load(quantized).graph.initializer)
    assert kinds[TensorProto.FLOAT16]
    assert not kinds[TensorProto.INT32]
    assert document["graphs"]["encoder"]["integer_kernels"] == 0
    expected = run_graph(encoder, make_picture(7))
    found = run_graph(quantized, make_picture(7), **PLAIN_QDQ)
    assert 0 < relative_error(expected, found) < 0.1
