"""Writes quantized layers into a graph, with QuantizeLinear and DequantizeLinear.

Two layouts with the same scales and the same integers:

- `explicit`: Q and DQ before each layer's activation, DQ behind its integer weight, a float bias.
  It is what TensorRT wants of explicit quantization, and what ModelOpt writes.
- `onnxruntime`: a product and the Add behind it become one Gemm on rows, whose bias is int32 in
  units of activation scale x weight scale. Only then does onnxruntime's CPU provider choose an
  integer kernel: a float bias makes it compute in float32 without a word.

Weights are stored as integers. Where Q and DQ are wanted behind the weights too, they follow the
stored integers, which changes no value: (q x s) / s is q.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from exporters.graphs.external_data import read_values
from exporters.graphs.structure import dims_of, drop_unused
from exporters.precision.layers import Layer
from exporters.precision.weights import (
    FP8_LARGEST,
    INT8_LARGEST,
    quantize_bias,
    quantize_channels,
    scale_of,
)
from exporters.protocol import StageError

_FLATTENED: Final = "rows"


class Layout(StrEnum):
    """Who the graph is written for."""

    ONNXRUNTIME = "onnxruntime"
    EXPLICIT = "explicit"


@dataclass(kw_only=True)
class QdqWriter:
    """Replaces layers of one graph by quantized ones.

    Args:
        model: The graph; changed in place.
        source: The folder that holds its data file, if it has one.
        ranges: The largest magnitude of each activation.
        layout: Who the graph is for.
        fp8: E4M3FN instead of INT8.
        qdq_weights: Whether Q and DQ follow the stored weights.
        half: Whether scales have to be numbers of float16, which they are going to be.
        wide: The layers that stay in float32 all the same, scales included, by their outputs.
    """

    model: ModelProto
    source: Path
    ranges: Mapping[str, float]
    layout: Layout
    fp8: bool = False
    qdq_weights: bool = False
    half: bool = False
    wide: Collection[str] = ()
    _constants: dict[str, TensorProto] = field(default_factory=dict)
    _shapes: dict[str, list[int | str | None]] = field(default_factory=dict)
    _activations: dict[tuple[str, bool], str] = field(default_factory=dict)
    _wide_inputs: set[str] = field(default_factory=set)

    def write(self, layers: Sequence[Layer]) -> dict[str, float]:
        """Quantize these layers; return the scale of each one's activation, by its output.

        Raises:
            StageError: A layer's activation has no range.
        """
        graph = self.model.graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        values = [*graph.value_info, *graph.input, *graph.output]
        self._shapes = {one.name: dims for one in values if (dims := dims_of(one)) is not None}
        self._wide_inputs = {layer.input for layer in layers if layer.output in self.wide}
        if self.fp8:
            self._replace_relus({layer.input for layer in layers})
        wanted = {layer.output: layer for layer in layers}
        adds = {layer.add: layer for layer in layers if layer.add and self._is_gemm(layer)}
        nodes: list[NodeProto] = []
        for node in graph.node:
            name = node.output[0]
            if name in adds:
                nodes.extend(self._gemm(adds[name], adds[name].add))
            elif name not in wanted:
                nodes.append(node)
            elif wanted[name] not in adds.values():
                nodes.extend(self._layer(wanted[name], node))
        kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(kept)
        drop_unused(self.model)
        return {layer.output: float(self._scale(layer)) for layer in layers}

    def _replace_relus(self, activations: Collection[str]) -> None:
        """Make Max(x, 0) of each Relu whose output is quantized.

        onnxruntime takes a Relu before Q for one that the clipping of integers does anyway, and
        removes it; it looks at the zero alone, so it does so to FP8, which clips nothing below 0.
        """
        for node in self.model.graph.node:
            if node.op_type == "Relu" and node.output[0] in activations:
                node.op_type = "Max"
                node.input.append(self._add("relu_zero", np.zeros((), dtype=np.float32)))

    def _is_gemm(self, layer: Layer) -> bool:
        """Return whether a product and its Add become one Gemm: rows must be countable."""
        shape = self._shapes.get(layer.add)
        static = shape is not None and sum(not isinstance(dim, int) for dim in shape) <= 1
        return self.layout is Layout.ONNXRUNTIME and layer.op == "MatMul" and static

    def _gemm(self, layer: Layer, output: str) -> Iterator[NodeProto]:
        yield from self._quantize_activation(layer, rows=True)
        activation = self._activations[layer.input, True]
        yield from self._dequantize_weight(layer)
        yield from self._dequantize_bias(layer)
        product = f"{layer.output}_product"
        yield helper.make_node(
            "Gemm", [activation, f"{layer.output}_w", f"{layer.output}_b"], [product], name=product
        )
        shape = [dim if isinstance(dim, int) else -1 for dim in self._shapes[output]]
        sizes = self._add(f"{output}_shape", np.array(shape, dtype=np.int64))
        yield helper.make_node("Reshape", [product, sizes], [output], name=f"{output}_restored")

    def _layer(self, layer: Layer, node: NodeProto) -> Iterator[NodeProto]:
        """Yield a node as it was, on dequantized inputs."""
        yield from self._quantize_activation(layer, rows=False)
        yield from self._dequantize_weight(layer)
        changed = NodeProto.FromString(node.SerializeToString())
        changed.input[0] = self._activations[layer.input, False]
        changed.input[1] = f"{layer.output}_w"
        own_bias = layer.bias and not layer.add
        if own_bias and self.layout is Layout.ONNXRUNTIME:
            yield from self._dequantize_bias(layer)
            changed.input[2] = f"{layer.output}_b"
        yield changed

    def _quantize_activation(self, layer: Layer, *, rows: bool) -> Iterator[NodeProto]:
        key = (layer.input, rows)
        if key in self._activations:
            return
        base = source = layer.input
        if rows:
            base = f"{layer.input}_{_FLATTENED}"
            weight = self._constants[layer.weight]
            sizes = self._add(f"{base}_shape", np.array([-1, weight.dims[0]], dtype=np.int64))
            yield helper.make_node("Reshape", [source, sizes], [base], name=base)
            source = base
        # The zero says which type the integers have.
        scale = self._add(f"{layer.input}_scale", np.array(self._scale(layer)))
        zero = self._add(f"{layer.input}_zero", np.zeros((), dtype=self._dtype))
        yield helper.make_node(
            "QuantizeLinear", [source, scale, zero], [f"{base}_q"], name=f"{base}_q"
        )
        yield helper.make_node(
            "DequantizeLinear", [f"{base}_q", scale, zero], [f"{base}_dq"], name=f"{base}_dq"
        )
        self._activations[key] = f"{base}_dq"

    def _dequantize_weight(self, layer: Layer) -> Iterator[NodeProto]:
        name = f"{layer.output}_w"
        tensor = self._constants[layer.weight]
        integers, scales = quantize_channels(
            self._values(tensor),
            layer.axis,
            fp8=self.fp8,
            half=self.half and layer.output not in self.wide,
        )
        stored = self._add(f"{name}_q", integers)
        scale = self._add(f"{name}_scale", scales)
        zero = self._add(f"{name}_zero", np.zeros(scales.shape, dtype=self._dtype))

        def node(kind: str, value: str, output: str) -> NodeProto:
            return helper.make_node(
                kind, [value, scale, zero], [output], name=output, axis=layer.axis
            )

        if self.qdq_weights:
            yield node("DequantizeLinear", stored, f"{name}_values")
            yield node("QuantizeLinear", f"{name}_values", f"{name}_again")
            stored = f"{name}_again"
        yield node("DequantizeLinear", stored, name)

    def _dequantize_bias(self, layer: Layer) -> Iterator[NodeProto]:
        name = f"{layer.output}_b"
        weights = numpy_helper.to_array(self._constants[f"{layer.output}_w_scale"])
        scales = (weights * self._scale(layer)).astype(np.float32)
        bias = self._values(self._constants[layer.bias])
        stored = self._add(f"{name}_q", quantize_bias(bias, scales))
        scale = self._add(f"{name}_scale", scales)
        yield helper.make_node("DequantizeLinear", [stored, scale], [name], name=name, axis=0)

    @property
    def _dtype(self) -> Any:
        return ml_dtypes.float8_e4m3fn if self.fp8 else np.int8

    def _scale(self, layer: Layer) -> np.float32:
        if layer.input not in self.ranges:
            raise StageError(
                f"The activation {layer.input} has no range.",
                "The calibration was made for other layers.",
                "Report this as a fault of the plan.",
            )
        steps = FP8_LARGEST if self.fp8 else INT8_LARGEST
        half = self.half and layer.input not in self._wide_inputs
        return scale_of(self.ranges[layer.input], steps, half=half)

    def _values(self, tensor: TensorProto) -> NDArray[np.float32]:
        return np.asarray(read_values(tensor, self.source), dtype=np.float32)

    def _add(self, name: str, values: NDArray[Any]) -> str:
        """Return an initializer of this name; made once."""
        if name not in self._constants:
            tensor = self.model.graph.initializer.add()
            tensor.CopyFrom(numpy_helper.from_array(values, name))
            self._constants[name] = tensor
        return name
