"""Dynamic INT8 by onnxruntime's own tool: weights are integers, activations become integers as the
graph runs, so there is nothing to calibrate."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from exporters.graphs.external_data import data_beside, read_values
from exporters.graphs.structure import drop_unused
from exporters.precision.layers import Layer


def quantize_on_the_fly(path: Path, layers: Sequence[Layer], scratch: Path) -> ModelProto:
    """Quantize linear layers dynamically, with one scale for each output channel.

    Args:
        path: The .onnx file, with the data file beside it if it has one.
        layers: The layers to quantize.
        scratch: A folder for the two files that the tool reads and writes.
    """
    model = onnx.load_model(path, load_external_data=False)
    _split_gemms(model, layers, path.parent)
    # The tool goes by the names of nodes.
    for node in model.graph.node:
        node.name = node.output[0]
    source, target = scratch / path.name, scratch / f"dynamic-{path.name}"
    # onnx, which the tool reads with, refuses links of either kind.
    for file in data_beside(path):
        shutil.copyfile(file, scratch / file.name)
    source.write_bytes(model.SerializeToString(deterministic=True))
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=[_product_of(layer) for layer in layers],
        extra_options={"MatMulConstBOnly": True},
    )
    quantized = onnx.load_model(target, load_external_data=False)
    for entry in list(quantized.opset_import):
        if entry.domain not in {node.domain for node in quantized.graph.node}:
            quantized.opset_import.remove(entry)
    return quantized


def _product_of(layer: Layer) -> str:
    return f"{layer.output}_product" if layer.op == "Gemm" and layer.bias else layer.output


def _split_gemms(model: ModelProto, layers: Sequence[Layer], source: Path) -> None:
    """Make a MatMul and an Add of each Gemm among the layers: the tool knows no dynamic Gemm."""
    gemms = {layer.output: layer for layer in layers if layer.op == "Gemm"}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        layer = gemms.get(node.output[0])
        if layer is None:
            nodes.append(NodeProto.FromString(node.SerializeToString()))
            continue
        weight = layer.weight
        if layer.axis == 0:
            values = read_values(constants[weight], source).T
            weight = f"{layer.output}_turned"
            turned = numpy_helper.from_array(np.ascontiguousarray(values), weight)
            model.graph.initializer.append(turned)
        output = _product_of(layer)
        nodes.append(helper.make_node("MatMul", [layer.input, weight], [output]))
        if layer.bias:
            nodes.append(helper.make_node("Add", [output, layer.bias], [layer.output]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    drop_unused(model)
