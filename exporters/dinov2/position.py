"""DINOv2's position tables at other sizes than their own, by Meta's two rules.

Models without registers were trained with bicubic interpolation (a = -0.75) that does not average
when it shrinks, and with a factor of (wanted + 0.1) / own along each axis. Those with registers
were trained with antialiased bicubic interpolation (a = -0.5, as Pillow has it), by size. The rules
differ by far more than rounding, so a model works well with its own only.

Where a place lies in the table is rounded to float32, as PyTorch's kernels have it: exact places
would make tables that differ from Meta's by 4e-6 of their scale. The rest is float64, summed in a
fixed order without a BLAS: the same bytes on any machine.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Taps = tuple[NDArray[np.intp], Doubles]

_OFFSET: Final = 0.1
_SHARP: Final = -0.75
_SMOOTH: Final = -0.5
_REACH: Final = 2  # samples on each side that a cubic kernel takes notice of


def resample(grid: Floats, rows: int, cols: int, *, registers: bool) -> Floats:
    """Resample the position table of a square of patches.

    Args:
        grid: float32 [n * n, D], row by row, without the class token's place.
        rows: Wanted patches from top to bottom.
        cols: Wanted patches from left to right.
        registers: Whether the model has registers, which decides the rule.

    Returns:
        float32 [rows * cols, D], row by row; `grid` itself where rows = cols = n. Where only one of
        them is n, both axes are interpolated, as Meta's code does it.
    """
    side = math.isqrt(len(grid))
    if side * side != len(grid):
        raise ValueError(f"a table of {len(grid)} places is no square")
    if rows == cols == side:
        return grid
    taps = _antialiased_taps if registers else _plain_taps
    plane = grid.astype(np.float64).reshape(side, side, -1)
    narrow = _apply(plane.swapaxes(0, 1), *taps(side, cols)).swapaxes(0, 1)
    return _apply(narrow, *taps(side, rows)).reshape(rows * cols, -1).astype(np.float32)


def _plain_taps(own: int, wanted: int) -> Taps:
    """Return for each place the four samples around it, those beyond the edge being the edge's."""
    scale = float(np.float32(own / (wanted + _OFFSET)))
    centres = _float32(_middles(wanted) * scale - 0.5)
    around = np.floor(centres) + np.arange(1 - _REACH, 1 + _REACH)
    return np.clip(around, 0, own - 1).astype(np.intp), _cubic(around - centres, _SHARP)


def _antialiased_taps(own: int, wanted: int) -> Taps:
    """Return for each place all samples under the kernel, which is as wide as the shrinking wants
    it.

    Samples beyond the edge count for nothing, and the weights of the others add up to one.
    """
    scale = float(np.float32(own / wanted))
    width = max(scale, 1.0)
    centres = _float32(_middles(wanted) * scale) - 0.5
    under = np.floor(centres - _REACH * width) + np.arange(math.ceil(2 * _REACH * width) + 2)
    weights = _cubic((under - centres) / width, _SMOOTH)
    weights[(under < 0) | (under >= own)] = 0
    total = np.zeros((wanted, 1))
    for column in weights.T:
        total[:, 0] += column
    return np.clip(under, 0, own - 1).astype(np.intp), weights / total


def _middles(places: int) -> Doubles:
    return np.arange(places, dtype=np.float64)[:, np.newaxis] + 0.5


def _float32(values: Doubles) -> Doubles:
    """Return the nearest float32 of each value, as float64."""
    return values.astype(np.float32).astype(np.float64)


def _cubic(distance: Doubles, a: float) -> Doubles:
    """Evaluate Keys' cubic convolution kernel."""
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < _REACH, far, 0.0))


def _apply(plane: Doubles, places: NDArray[np.intp], weights: Doubles) -> Doubles:
    """Sum weighted samples along the first axis, one tap after the other."""
    total = np.zeros((len(places), *plane.shape[1:]))
    for tap in range(places.shape[1]):
        total += weights[:, tap, np.newaxis, np.newaxis] * plane[places[:, tap]]
    return total
