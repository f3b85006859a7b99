"""Weights in eight bits: one scale for each output channel, zero is zero.

INT8 uses -127 to 127, as TensorRT and ModelOpt do; FP8 is E4M3FN, whose largest value is 448.
"""

from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

INT8_LARGEST: Final = 127
FP8_LARGEST: Final = 448


def scale_of(largest: float, steps: int, *, half: bool = False) -> np.float32:
    """Return the scale at which a magnitude takes all the steps; 1 for a tensor that is zero.

    Args:
        largest: The magnitude.
        steps: How many steps there are from 0.
        half: Whether the scale has to be a number of float16.
    """
    return np.float32(_find_scales(np.array(largest, dtype=np.float32), steps, half))


def _find_scales(largest: NDArray[np.float32], steps: int, half: bool) -> NDArray[np.float32]:
    """Compute 2 x largest / (2 x steps): onnxruntime's arithmetic, and so ModelOpt's, in the same
    order.
    """
    scales = (largest * np.float32(2)) / np.float32(2 * steps)
    if half:
        # Upwards, or the largest value would not fit any more; and nothing below normal numbers.
        rounded = scales.astype(np.float16)
        rounded = np.where(rounded < scales, np.nextafter(rounded, np.float16(np.inf)), rounded)
        scales = np.maximum(rounded.astype(np.float32), np.float32(np.finfo(np.float16).tiny))
    return np.where(largest > 0, scales, np.float32(1)).astype(np.float32)


def quantize_channels(
    weight: NDArray[np.float32], axis: int, *, fp8: bool, half: bool = False
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Quantize a weight with one scale for each index along an axis.

    Args:
        weight: float32, any shape.
        axis: The axis of output channels.
        fp8: E4M3FN instead of INT8.
        half: Whether scales have to be numbers of float16.

    Returns:
        int8 or float8_e4m3fn of the weight's shape, and float32 [channels].
    """
    others = tuple(one for one in range(weight.ndim) if one != axis % weight.ndim)
    largest = np.abs(weight).max(axis=others)
    scales = _find_scales(largest, FP8_LARGEST if fp8 else INT8_LARGEST, half)
    shape = [1] * weight.ndim
    shape[axis] = -1
    scaled = weight / scales.reshape(shape)
    if fp8:
        return np.clip(scaled, -FP8_LARGEST, FP8_LARGEST).astype(ml_dtypes.float8_e4m3fn), scales
    return np.clip(np.rint(scaled), -INT8_LARGEST, INT8_LARGEST).astype(np.int8), scales


def quantize_bias(bias: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return a bias as int32 steps of activation scale x weight scale, by channel.

    Integer kernels add it to their sums of products, which count in that unit.
    """
    steps = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
    bounds = np.iinfo(np.int32)
    return np.asarray(np.clip(steps, bounds.min, bounds.max), dtype=np.int32)
