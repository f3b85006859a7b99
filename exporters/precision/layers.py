"""The layers of a graph that can be quantized, chosen by what they are.

A linear layer is a MatMul or a Gemm with a constant weight, whatever a simplifier made of it; a
product of two activations, as in attention, is none. A node is known by the name of its output,
which is unique in a graph; the names of nodes need not be.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from onnx import ModelProto, NodeProto, TensorProto

from exporters.graphs.structure import all_graphs

# TensorRT and ONNX Runtime have no fast integer kernel for a convolution of fewer channels.
LEAST_CHANNELS: Final = 16

_FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16)


class OpType(StrEnum):
    """What `op_types_to_quantize` names: MatMul stands for every linear layer."""

    MATMUL = "MatMul"
    CONV = "Conv"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer with a constant weight.

    Attributes:
        output: The name of the node's output, which stands for the layer.
        op: MatMul, Gemm or Conv.
        input: The activation that it takes.
        weight: The initializer.
        axis: The weight's axis of output channels.
        bias: The initializer of its bias, whether the node's own or of an Add behind it.
        add: The output of that Add; empty where there is none.
        reason: Why it stays as it is; empty for a layer that is quantized.
    """

    output: str
    op: str
    input: str
    weight: str
    axis: int
    bias: str = ""
    add: str = ""
    reason: str = ""

    @property
    def kind(self) -> OpType:
        """What `op_types_to_quantize` calls it."""
        return OpType.CONV if self.op == "Conv" else OpType.MATMUL


def find_layers(model: ModelProto, op_types: Collection[str]) -> list[Layer]:
    """Return every linear layer and convolution of a graph, in its order.

    Args:
        model: The graph; its weights are not read, so they may lie in another file.
        op_types: The kinds to quantize; layers of others are given a reason.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    fixed = _find_constants(model)
    users: dict[str, list[NodeProto]] = {}
    for inner in all_graphs(graph):
        for node in inner.node:
            for name in node.input:
                users.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    return [
        layer
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm", "Conv")
        for layer in _read(node, constants, fixed, users, outputs, op_types)
    ]


def _read(
    node: NodeProto,
    constants: Mapping[str, TensorProto],
    fixed: Collection[str],
    users: Mapping[str, list[NodeProto]],
    outputs: Collection[str],
    op_types: Collection[str],
) -> Iterator[Layer]:
    left = constants.get(node.input[0])
    if node.op_type == "MatMul" and left is not None and node.input[1] not in fixed:
        yield _describe_left(node, left)
        return
    weight = constants.get(node.input[1])
    if weight is None or weight.data_type not in _FLOATS or node.input[0] in fixed:
        return
    attributes = {entry.name: entry for entry in node.attribute}
    turned = node.op_type == "Gemm" and "transB" in attributes and attributes["transB"].i
    axis = 0 if turned or node.op_type == "Conv" else len(weight.dims) - 1
    bias = node.input[2] if len(node.input) > 2 and node.input[2] in constants else ""
    add = ""
    if node.op_type == "MatMul" and node.output[0] not in outputs:
        bias, add = _find_bias(users.get(node.output[0], []), constants, weight.dims[axis])
    layer = Layer(
        output=node.output[0],
        op=node.op_type,
        input=node.input[0],
        weight=weight.name,
        axis=axis,
        bias=bias,
        add=add,
    )
    yield replace(layer, reason=_refuse(layer, node, weight, op_types))


def _describe_left(node: NodeProto, weight: TensorProto) -> Layer:
    """Return a product whose weight comes first: a linear layer, but none that runtimes
    quantize.
    """
    axis = max(len(weight.dims) - 2, 0)
    return Layer(
        output=node.output[0],
        op=node.op_type,
        input=node.input[1],
        weight=weight.name,
        axis=axis,
        reason="its weight stands on the left, where integer kernels take one scale, not channels'",
    )


def _refuse(layer: Layer, node: NodeProto, weight: TensorProto, op_types: Collection[str]) -> str:
    """Return why a layer stays as it is; empty where it does not."""
    if layer.kind.value not in op_types:
        return f"{layer.kind.value} is not among the operators to quantize"
    attributes = {entry.name: entry for entry in node.attribute}
    if layer.op == "Conv" and weight.dims[1] < LEAST_CHANNELS:
        return f"a convolution of {weight.dims[1]} input channels has no integer kernel"
    if layer.op == "MatMul" and len(weight.dims) != 2:
        return "its weight is not a matrix"
    if layer.op == "Gemm":
        for name, plain in (("alpha", 1.0), ("beta", 1.0)):
            if name in attributes and attributes[name].f != plain:
                return f"its {name} is not 1"
        if "transA" in attributes and attributes["transA"].i:
            return "its activation is transposed"
        if len(node.input) > 2 and not layer.bias:
            return "what it adds is not a constant"
    return ""


def _find_bias(
    users: list[NodeProto], constants: Mapping[str, TensorProto], channels: int
) -> tuple[str, str]:
    """Return the bias that the one Add behind a product adds, and that Add's output."""
    if len(users) != 1 or users[0].op_type != "Add":
        return "", ""
    for name in users[0].input:
        if name in constants and list(constants[name].dims) == [channels]:
            return name, users[0].output[0]
    return "", ""


def _find_constants(model: ModelProto) -> set[str]:
    """Return the names of all values that no input of the graph reaches."""
    moving = {value.name for value in model.graph.input}
    fixed = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if not any(name in moving for name in node.input):
            fixed.update(node.output)
        else:
            moving.update(node.output)
    return fixed
