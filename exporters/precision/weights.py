"""Weights in eight bits: one scale for each output channel, zero is zero.

INT8 uses -127 to 127, as TensorRT and ModelOpt do; FP8 is E4M3FN, whose largest value is 448.
"""

from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

INT8_LARGEST: Final = 127
FP8_LARGEST: Final = 448


def scale_of(largest: float, steps: int) -> np.float32:
    """The scale at which a magnitude takes all the steps; 1 for a tensor that is zero.

    The same arithmetic, in the same order, as onnxruntime's quantizer, and so ModelOpt's:
    2 x largest / (2 x steps).
    """
    return np.float32((np.float32(largest) * np.float32(2)) / np.float32(2 * steps)) or np.float32(
        1
    )


def quantize_channels(
    weight: NDArray[np.float32], axis: int, *, fp8: bool
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Quantizes a weight with one scale for each index along an axis.

    Args:
        weight: float32, any shape.
        axis: The axis of output channels.
        fp8: E4M3FN instead of INT8.

    Returns:
        int8 or float8_e4m3fn of the weight's shape, and float32 [channels].
    """
    others = tuple(one for one in range(weight.ndim) if one != axis % weight.ndim)
    largest = np.abs(weight).max(axis=others)
    steps = FP8_LARGEST if fp8 else INT8_LARGEST
    scales = (largest * np.float32(2)) / np.float32(2 * steps)
    scales = np.where(scales > 0, scales, np.float32(1)).astype(np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    scaled = weight / scales.reshape(shape)
    if fp8:
        return np.clip(scaled, -FP8_LARGEST, FP8_LARGEST).astype(ml_dtypes.float8_e4m3fn), scales
    return np.clip(np.rint(scaled), -INT8_LARGEST, INT8_LARGEST).astype(np.int8), scales


def quantize_bias(bias: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int32]:
    """A bias as int32 steps of activation scale x weight scale, by channel.

    Integer kernels add it to their sums of products, which count in that unit.
    """
    steps = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
    bounds = np.iinfo(np.int32)
    return np.asarray(np.clip(steps, bounds.min, bounds.max), dtype=np.int32)
