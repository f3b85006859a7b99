"""float16 inside, float32 outside, by ModelOpt's AutoCast: strongly typed, with casts where types
meet and nothing left to a runtime's choice."""

from collections.abc import Collection
from typing import Final

import modelopt.onnx.utils as modelopt_utils
from modelopt.onnx.autocast.convert import LATEST_IR_VERSION_SUPPORTED_BY_ORT
from modelopt.onnx.autocast.graphsanitizer import GraphSanitizer
from modelopt.onnx.autocast.precisionconverter import PrecisionConverter
from modelopt.onnx.autocast.utils import setup_mappings
from onnx import ModelProto, ValueInfoProto

# Sums over many squares or exponentials, and coordinates, which pass float16's 65504 or need more
# than its 11 bits.
KEPT_IN_FLOAT32: Final = (
    "LayerNormalization",
    "ReduceMean",
    "ReduceSum",
    "Pow",
    "Resize",
    "Softmax",
    "Sin",
    "Cos",
)


def halve(model: ModelProto, opset: int, kept: Collection[str] = ()) -> ModelProto:
    """Return the same graph in float16, with its inputs and outputs as they were.

    These are the steps of ModelOpt's `convert_to_f16`, which takes operators, and not nodes, that
    stay in float32.

    Args:
        model: A graph with its weights in it, whose nodes have names of their own.
        opset: The opset of the result, at least its own; float16 scales of Q and DQ need 19.
        kept: The names of nodes that stay in float32, beside the operators that always do.
    """
    signature = {
        "input": _copy(model.graph.input),
        "output": _copy(model.graph.output),
    }
    sanitizer = GraphSanitizer(
        model, min_opset=opset, max_ir_version=LATEST_IR_VERSION_SUPPORTED_BY_ORT
    )
    sanitizer.find_custom_nodes()
    sanitizer.convert_opset()
    sanitizer.ensure_graph_name_exists()
    sanitizer.convert_fp64_to_fp32()
    typed: ModelProto = modelopt_utils.infer_types(sanitizer.model, False, strict_mode=True)
    converter = PrecisionConverter(
        typed,
        *setup_mappings(typed),
        keep_io_types=True,
        low_precision_type="fp16",
        custom_ops=sanitizer.custom_ops,
        original_network_io_metadata=signature,
    )
    high = {
        node.name
        for node in typed.graph.node
        if node.op_type in KEPT_IN_FLOAT32 or node.name in kept
    }
    names = [node.name for node in typed.graph.node]
    converted: ModelProto = converter.convert(
        [name for name in names if name in high], [name for name in names if name not in high]
    )
    return converted


def _copy(values: Collection[ValueInfoProto]) -> list[ValueInfoProto]:
    return [ValueInfoProto.FromString(value.SerializeToString()) for value in values]
