"""Whether a network computes in the type that its engine promises.

Tools have written engines that are called FP16 and compute in float32. Without a GPU an engine
tells nothing of its layers, but the network that it is built from does: it is strongly typed, so
the compiler may not choose other types.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final

from exporters.tensorrt.network import Layer

# Those in which nearly all of the work is done.
HEAVY: Final = frozenset(
    {"ATTENTION_OUTPUT", "CONVOLUTION", "DECONVOLUTION", "EINSUM", "MATRIX_MULTIPLY"}
)
REDUCED: Final = frozenset({"float16", "bfloat16", "int8", "float8e4m3fn", "int4", "float4e2m1"})


class Precision(StrEnum):
    """What an engine computes in."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    FP8 = "fp8"

    @property
    def work(self) -> str:
        """The type of what products and convolutions put out."""
        return "float32" if self is Precision.FP32 else "float16"

    @property
    def quantized(self) -> str:
        """The type of quantized values; empty where there are none."""
        return {Precision.INT8: "int8", Precision.FP8: "float8e4m3fn"}.get(self, "")


def find_precision_faults(
    precision: Precision, layers: Iterable[Layer], *, quantized: int, kept: Collection[str] = ()
) -> list[str]:
    """Return where a network computes in another type than its engine promises, a line each.

    Args:
        precision: What is promised.
        layers: The network's.
        quantized: How many of its layers the graph is said to have quantized.
        kept: Names of nodes that were left in float32 on purpose.
    """
    listed = list(layers)
    return [
        *_find_heavy_faults(precision, listed, kept),
        *_find_quantized_faults(precision, listed, quantized),
    ]


def _find_heavy_faults(
    precision: Precision, layers: Iterable[Layer], kept: Collection[str]
) -> Iterator[str]:
    heavy = [one for one in layers if one.kind in HEAVY and one.dtype.startswith(("float", "bf"))]
    strange = [one for one in heavy if one.dtype != precision.work and one.name not in kept]
    if strange:
        first = strange[0]
        yield (
            f"{len(strange)} of {len(heavy)} products and convolutions put out another type than "
            f"{precision.work}, the first {first.name} ({first.dtype})"
        )
    if not any(one.dtype == precision.work for one in (heavy or layers)):
        yield f"nothing in it computes in {precision.work}"


def _find_quantized_faults(
    precision: Precision, layers: Sequence[Layer], quantized: int
) -> Iterator[str]:
    # Each has weights of its own behind a DequantizeLinear; layers may share an activation's.
    scaled = sum(one.kind == "DEQUANTIZE" for one in layers)
    scaled -= sum(one.kind in ("QUANTIZE", "DYNAMIC_QUANTIZE") for one in layers)
    if precision.quantized and scaled < quantized:
        yield f"{max(scaled, 0)} of its layers have quantized weights, and {quantized} are promised"
    found = {one.dtype for one in layers if one.kind in ("QUANTIZE", "DYNAMIC_QUANTIZE")}
    wanted = {precision.quantized} if quantized and precision.quantized else set()
    if found != wanted:
        yield (
            f"its values are quantized to {', '.join(sorted(found)) or 'nothing'}, "
            f"and {', '.join(wanted) or 'nothing'} is promised"
        )
    if precision is Precision.FP32 and (less := REDUCED & {one.dtype for one in layers}):
        yield f"it has values of {', '.join(sorted(less))}"
