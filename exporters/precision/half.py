"""float16 inside, float32 outside, by ModelOpt's AutoCast: strongly typed, with casts where types
meet and nothing left to a runtime's choice."""

from typing import Final

from modelopt.onnx.autocast import convert_to_f16
from onnx import ModelProto

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


def halve(model: ModelProto, opset: int) -> ModelProto:
    """Return the same graph in float16, with its inputs and outputs as they were.

    Args:
        model: A graph with its weights in it.
        opset: The opset of the result; float16 scales of Q and DQ need 19.
    """
    converted: ModelProto = convert_to_f16(
        model,
        low_precision_type="fp16",
        keep_io_types=True,
        op_block_list=list(KEPT_IN_FLOAT32),
        opset=opset,
    )
    return converted
