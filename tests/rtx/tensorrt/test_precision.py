"""Whether a network computes in what is promised."""

import pytest

from exporters.tensorrt.network import Layer
from exporters.tensorrt.precision import Precision, find_precision_faults


def layers(*described: str) -> list[Layer]:
    """Layers from texts such as `MATRIX_MULTIPLY float16`; they are called by their numbers."""
    return [
        Layer(name=str(index), kind=kind, dtype=dtype)
        for index, (kind, dtype) in enumerate(one.split() for one in described)
    ]


PRODUCT16, PRODUCT32 = "MATRIX_MULTIPLY float16", "MATRIX_MULTIPLY float32"
CONVOLUTION16, CONVOLUTION32 = "CONVOLUTION float16", "CONVOLUTION float32"
QUANTIZE, SCALE = "QUANTIZE int8", "DEQUANTIZE float16"


@pytest.mark.parametrize(
    ("precision", "quantized", "described"),
    [
        (Precision.FP32, False, (PRODUCT32, CONVOLUTION32, "CAST int64")),
        (Precision.FP16, False, (PRODUCT16, CONVOLUTION16, "SOFTMAX float32")),
        (Precision.INT8, 1, (QUANTIZE, SCALE, SCALE, PRODUCT16)),
        # Two products may share an activation's scale, each has one of its weights.
        (Precision.INT8, 2, (QUANTIZE, SCALE, SCALE, SCALE, PRODUCT16)),
        (Precision.INT8, 0, (PRODUCT16,)),
        (Precision.FP8, 1, ("QUANTIZE float8e4m3fn", SCALE, SCALE, PRODUCT16)),
        # A product of whole numbers computes shapes.
        (Precision.FP16, False, (PRODUCT16, "MATRIX_MULTIPLY int64")),
        # Without any product the rest has to show it.
        (Precision.FP16, False, ("ELEMENTWISE float16", "CAST float32")),
    ],
)
def test_what_is_promised_is_found(
    precision: Precision, quantized: int, described: tuple[str, ...]
) -> None:
    assert find_precision_faults(precision, layers(*described), quantized=quantized) == []


@pytest.mark.parametrize(
    ("precision", "quantized", "described", "said"),
    [
        (Precision.FP16, False, (PRODUCT16, PRODUCT32), "1 of 2 products and convolutions"),
        (Precision.FP16, False, (CONVOLUTION32,), "the first 0 (float32)"),
        (Precision.FP16, False, ("ELEMENTWISE float32",), "nothing in it computes in float16"),
        (Precision.FP16, False, (), "nothing in it computes in float16"),
        (Precision.FP16, False, (PRODUCT16, QUANTIZE), "quantized to int8, and nothing"),
        (Precision.FP32, False, (PRODUCT32, "CAST float16"), "it has values of float16"),
        (Precision.FP32, False, (PRODUCT16,), "another type than float32"),
        (Precision.INT8, True, (PRODUCT16,), "quantized to nothing, and int8 is promised"),
        (Precision.INT8, True, (QUANTIZE, PRODUCT32), "another type than float16"),
        (Precision.FP8, True, (QUANTIZE, PRODUCT16), "to int8, and float8e4m3fn is promised"),
        (Precision.INT8, 2, (QUANTIZE, SCALE, SCALE, PRODUCT16), "1 of its layers have quantized"),
        (Precision.INT8, False, (QUANTIZE, PRODUCT16), "to int8, and nothing is promised"),
    ],
)
def test_what_is_not_is_told(
    precision: Precision, quantized: int, described: tuple[str, ...], said: str
) -> None:
    faults = find_precision_faults(precision, layers(*described), quantized=quantized)
    assert said in "; ".join(faults)


def test_what_was_kept_in_float32_on_purpose_is_no_fault() -> None:
    found = layers(PRODUCT16, PRODUCT32)
    assert find_precision_faults(Precision.FP16, found, quantized=False, kept=["1"]) == []
    assert find_precision_faults(Precision.FP16, found, quantized=False, kept=["0"])
