"""What TensorRT's parser and compiler refuse, in their words and in ours.

Each pattern was met with TensorRT for RTX 1.7.1; what none of them knows is handed on as it is.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from exporters.protocol import StageError, as_sentence


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A refusal that is understood.

    Attributes:
        pattern: What TensorRT says.
        means: What that means, to be read behind its words.
        remedy: What to do.
    """

    pattern: str
    means: str
    remedy: str


REFUSALS: Final = (
    Refusal(
        pattern=r"FP32 GEMM is not supported",
        means="For GPUs of compute capability 7.5 it multiplies no matrices in float32",
        remedy="Build rtx-fp16 or rtx-int8 for sm75; or name other GPUs with --gpu.",
    ),
    Refusal(
        pattern=r"HW-specific datatypes: fp8",
        means="FP8 needs a GPU of compute capability 8.9, 12.0 or 12.1",
        remedy="Name GPUs that have it, --gpu sm89+sm120+sm121; or build rtx-int8 or rtx-fp16.",
    ),
    Refusal(
        pattern=r"Non-zero zero point is not supported",
        means="It takes symmetric quantization alone: int8 with zero points of 0",
        remedy="Quantize with the layout explicit: --layout explicit.",
    ),
    Refusal(
        pattern=r"has type Int32 but must have type",
        means="The graph has int32 biases behind DequantizeLinear, which are ONNX Runtime's way",
        remedy="Quantize with the layout explicit: --layout explicit.",
    ),
    Refusal(
        pattern=r"MatMulInteger|DynamicQuantizeLinear|ConvInteger",
        means="It has no quantization while a graph runs",
        remedy="Quantize with calibrated scales: onnx-int8 with --layout explicit, or onnx-fp8.",
    ),
    Refusal(
        pattern=r"must have same input types|must all be of the same type|of same types but has",
        means="The graph mixes types and leaves the casts to the runtime (weak typing)",
        remedy="Write the casts into the graph; onnx-fp16 does.",
    ),
    Refusal(
        pattern=r"Plugin not found",
        means="The graph has an operator of another domain than ONNX's own",
        remedy="Export the graph with ONNX's own operators alone.",
    ),
    Refusal(
        pattern=r"MODEL_DESERIALIZE_FAILED",
        means="The file is no ONNX model, or is damaged",
        remedy="Build the ONNX target anew, or name another file.",
    ),
)

UNKNOWN_NEXT: Final = (
    "Read the step's log; build another format or for other GPUs, and report this with the log."
)


def explain(what: str, said: Iterable[str]) -> StageError:
    """Return the error of a graph that TensorRT refused.

    Args:
        what: What was refused, a sentence.
        said: What TensorRT said of it.
    """
    lines = list(said)
    text = "; ".join(lines)[:800] or "nothing"
    for one in REFUSALS:
        if any(re.search(one.pattern, line) for line in lines):
            return StageError(what, f"{one.means}. TensorRT says: {as_sentence(text)}", one.remedy)
    return StageError(what, f"TensorRT says: {as_sentence(text)}", UNKNOWN_NEXT)
