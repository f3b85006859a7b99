"""What bench.quantize reads of graphs: their linear layers, and the products that are quantized.

A value keeps its float32 name in every quantized file; nodes are known by the name of their output.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from exporters.precision.layers import Layer, OpType, find_layers

PRODUCTS = ("MatMul", "Gemm")


@dataclass(frozen=True, kw_only=True)
class Product:
    """A matrix product that is no linear layer.

    Attributes:
        output: The name of its output.
        inputs: The names of both values that it multiplies.
        constant: Whether no picture reaches it; otherwise both are activations, as in attention.
    """

    output: str
    inputs: tuple[str, str]
    constant: bool


def find_linears(model: ModelProto) -> list[Layer]:
    """Return the linear layers of a float32 graph, in its order."""
    return [layer for layer in find_layers(model, [OpType.MATMUL]) if layer.op != "Conv"]


def value_of(layer: Layer) -> str:
    """Return the name of what a layer computes, its bias included."""
    return layer.add or layer.output


def find_quantized(base: ModelProto, quantized: ModelProto) -> set[str]:
    """Return the products of a float32 graph that another file computes from dequantized
    activations.

    A layer and its Add may have become one Gemm on rows, so a value counts as computed by the
    product from which it comes through nothing but Add and Reshape.

    Returns:
        Outputs of nodes of the float32 graph.
    """
    makers = {name: node for node in quantized.graph.node for name in node.output}
    values = {layer.output: value_of(layer) for layer in find_linears(base)}
    found = set()
    for node in base.graph.node:
        output = node.output[0]
        if node.op_type in PRODUCTS:
            product = _find_product(values.get(output, output), makers)
            source = makers.get(product.input[0]) if product else None
            if source is not None and source.op_type == "DequantizeLinear":
                found.add(output)
    return found


def find_products(base: ModelProto, quantized: ModelProto) -> list[Product]:
    """Return the products that a file has quantized beside linear layers, in the float32 graph's
    order.
    """
    linears = {layer.output for layer in find_linears(base)}
    chosen = find_quantized(base, quantized) - linears
    moving = {value.name for value in base.graph.input}
    found = []
    for node in base.graph.node:
        if moving.intersection(node.input):
            moving.update(node.output)
        if node.output[0] in chosen:
            inputs = (node.input[0], node.input[1])
            constant = node.output[0] not in moving
            found.append(Product(output=node.output[0], inputs=inputs, constant=constant))
    return found


def missing(model: ModelProto, names: Iterable[str]) -> list[str]:
    """Return those of some values that a graph does not have."""
    made = {name for node in model.graph.node for name in node.output}
    return [name for name in names if name not in made]


def _find_product(name: str, makers: Mapping[str, NodeProto]) -> NodeProto | None:
    """Return the product that makes a value, through nothing but additions and other shapes."""
    node = makers.get(name)
    if node is None or node.op_type in PRODUCTS:
        return node
    if node.op_type not in ("Add", "Reshape"):
        return None
    found = (_find_product(one, makers) for one in node.input)
    return next((one for one in found if one is not None), None)
