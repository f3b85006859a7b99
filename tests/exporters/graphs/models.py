"""A small graph, its contract, and what may be wrong with them."""

from typing import Any

import onnx
from onnx import ModelProto, TensorProto, helper

CONTRACT = {"domains": [""], "forbidden_ops": ["If", "OneHot"]}


GOLDEN: dict[str, Any] = {
    "name": "encoder",
    "inputs": [{"name": "x", "dtype": "float32", "dims": ["batch", 4]}],
    "outputs": [{"name": "y", "dtype": "float32", "dims": ["batch", 2, 2]}],
    "forbidden_ops": ["Shape"],
}


def make_model(
    *,
    opset: int = 18,
    x: str = "x",
    dims: tuple[Any, ...] = ("batch", 2, 2),
    dtype: int = TensorProto.FLOAT,
    extra: tuple[onnx.NodeProto, ...] = (),
    domain: str = "",
) -> ModelProto:
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [0, 2, 2])
    nodes = [
        helper.make_node("Relu", [x], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["y"]),
        *extra,
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info(x, dtype, ["batch", 4])],
        [helper.make_tensor_value_info("y", dtype, dims)],
        [shape],
        value_info=[helper.make_tensor_value_info("r", dtype, ["batch", 4])],
    )
    opsets = [helper.make_opsetid("", opset)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
