"""Values that float16 cannot hold: which are looked at, how far they reach, what stays."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from exporters.precision.float16_range import (
    CLOSE,
    LARGEST,
    bound_values,
    describe_range,
    find_observed,
    find_overflowing,
)


def make_graph(nodes: list[onnx.NodeProto], **constants: object) -> ModelProto:
    """float32 `x` [2, 8] to the output of the last node."""
    weights = [numpy_helper.from_array(np.asarray(one), name) for name, one in constants.items()]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


node = helper.make_node


def test_what_computes_is_observed_and_what_moves_is_not(encoder: Path) -> None:
    names = find_observed(onnx.load(encoder))
    # In the graph's order; no weights, and no numbers that Softmax, Reshape or Split gave on.
    assert names[:4] == ["image", "patches", "mixed", "table"]
    assert not {"rows", "embedded", "q", "k", "v", "shares", "tokens", "qkv.w"} & set(names)
    assert {"placed", "normed", "qkv", "qkv_sum", "logits", "attended", "head"} <= set(names)


def test_integers_are_not_observed() -> None:
    model = make_graph(
        [
            node("Shape", ["x"], ["sizes"]),
            node("Cast", ["sizes"], ["numbers"], to=TensorProto.FLOAT),
            node("ReduceMax", ["numbers"], ["most"], keepdims=0),
            node("Mul", ["x", "most"], ["y"]),
        ]
    )
    assert find_observed(model) == ["x", "numbers", "most", "y"]


def test_bounds_go_where_values_go() -> None:
    model = make_graph(
        [
            node("Concat", ["x", "wide"], ["both"], axis=1),
            node("Slice", ["both", "zero", "one", "zero"], ["first"]),
            node("Mul", ["first", "third"], ["y"]),
        ],
        wide=np.full((2, 3), -7e4, np.float32),
        third=np.float32(1 / 3),
        zero=np.array([0]),
        one=np.array([1]),
    )
    bounds = bound_values(model, {"x": 5.0, "y": 2e4})
    assert bounds["x"] == 5.0
    assert bounds["both"] == bounds["first"] == 7e4
    assert find_overflowing(model, bounds) == {"both", "first", "y"}


@pytest.mark.parametrize(("value", "kept"), [(LARGEST, set()), (LARGEST + 1, {"y"})])
def test_the_limit_is_float16s_own(value: float, kept: set[str]) -> None:
    model = make_graph([node("Mul", ["x", "x"], ["y"])])
    assert float(np.finfo(np.float16).max) == LARGEST
    assert find_overflowing(model, bound_values(model, {"x": 1.0, "y": value})) == kept


def test_dequantized_values_reach_what_integers_reach() -> None:
    """The scale is rounded up, so the last step may pass what the value itself keeps."""
    model = make_graph(
        [
            node("QuantizeLinear", ["x", "scale", "none"], ["x_q"]),
            node("DequantizeLinear", ["x_q", "scale", "none"], ["x_dq"]),
            node("DequantizeLinear", ["w_q", "w_scale"], ["w"]),
            node("MatMul", ["x_dq", "w"], ["y"]),
            node("Relu", ["y"], ["z"]),
        ],
        scale=np.float32(516),
        none=np.int8(0),
        w_q=np.full((8, 8), -3, np.int8),
        w_scale=np.float32(0.5),
    )
    bounds = bound_values(model, {"x": LARGEST - 1, "y": 9.0, "z": 9.0})
    assert (bounds["x_dq"], bounds["w"]) == (516 * 128, 1.5)
    # What is dequantized goes with the product, its integers included; what follows does not.
    assert find_overflowing(model, bounds) == {"x_q", "x_dq", "w", "y"}


def test_a_report_names_what_passes_half_of_the_limit() -> None:
    model = make_graph(
        [
            node("Mul", ["x", "x"], ["a"]),
            node("Pow", ["a", "two"], ["b"]),
            node("ReduceMean", ["b", "axes"], ["c"]),
            node("Relu", ["c"], ["d"]),
        ],
        two=np.float32(2),
        axes=np.array([1]),
    )
    observed = {"x": 1.0, "a": CLOSE + 1, "b": math.inf, "c": CLOSE, "d": 3.0}
    bounds = bound_values(model, observed)
    kept = find_overflowing(model, bounds)
    assert kept == {"b", "c"}
    assert describe_range(model, observed, bounds, kept, ["Pow", "ReduceMean"]) == {
        "limit": LARGEST,
        "observed": 5,
        "largest": {"tensor": "b", "largest": None},
        "close": [
            {"tensor": "b", "largest": None, "float16": False},
            {"tensor": "a", "largest": CLOSE + 1, "float16": True},
        ],
        # Those would be float32 anyway.
        "kept": [],
    }


def test_constants_are_values_too() -> None:
    model = make_graph(
        [node("Add", ["x", "offset"], ["a"]), node("Mul", ["a", "half"], ["y"])],
        offset=np.full(8, -7e4, np.float32),
        half=np.float32(0.5),
    )
    # Taken alone, this constant is what does not fit: pictures may cancel it out.
    observed = {"x": 7e3, "a": 9.0, "y": 4.5}
    bounds = bound_values(model, observed)
    kept = find_overflowing(model, bounds)
    assert kept == {"a"}
    said = describe_range(model, observed, bounds, kept, [])
    assert said["close"] == [{"tensor": "offset", "largest": 7e4, "float16": False}]
    assert said["largest"] == {"tensor": "x", "largest": 7e3}
    (one,) = said["kept"]
    assert one == {"node": "a", "name": model.graph.node[0].name, "op": "Add"}
