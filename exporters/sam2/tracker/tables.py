"""Position tables as small constants: sines rounded correctly, so that they are the same anywhere.

A table of a picture is a row's part and a column's part: 16 KB to 64 KB are stored where the whole
would take 1 to 4 MB, and a graph puts them together once.
"""

from collections.abc import Callable
from typing import Any, Final

import mpmath
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]

_BITS: Final = 128
_EPSILON: Final = 1e-6


class PlanePositions(torch.nn.Module):
    """Two tables along the axes of a square plane, put together for every cell of it.

    `forward()` gives float32 [side * side, 2 * channels], row by row: the part that `first` names
    ("rows" or "columns") and then the other.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Floats, columns: Floats, *, first: str) -> None:
        super().__init__()
        self.register_buffer("rows", torch.from_numpy(rows)[:, None])
        self.register_buffer("columns", torch.from_numpy(columns)[None])
        self.first = first

    def forward(self) -> Tensor:
        """Broadcast both tables over the plane."""
        height, width = int(self.rows.shape[0]), int(self.columns.shape[1])
        rows = self.rows.expand(-1, width, -1)
        columns = self.columns.expand(height, -1, -1)
        parts = (rows, columns) if self.first == "rows" else (columns, rows)
        return torch.cat(parts, dim=-1).reshape(height * width, -1)


def sine_positions(side: int, channels: int) -> PlanePositions:
    """Compute upstream's `PositionEmbeddingSine(channels)` with its defaults, for a square map.

    Rows come first; in each half, sines and cosines alternate. Upstream computes it in float32;
    this is the exact value, rounded once.
    """
    half = channels // 2
    angles = [
        [
            2 * mpmath.pi * place / (side + _EPSILON) / mpmath.mpf(10000) ** (2 * (i // 2) / half)
            for i in range(half)
        ]
        for place in range(1, side + 1)
    ]
    table = _rounded(angles, lambda angle, i: mpmath.cos(angle) if i % 2 else mpmath.sin(angle))
    return PlanePositions(table, table, first="rows")


def rotary_positions(
    side: int, channels: int, theta: float
) -> tuple[PlanePositions, PlanePositions]:
    """Return the cosines and sines of upstream's axial rotary encoding for a square map.

    Args:
        side: Cells along an axis.
        channels: Of a query: a quarter of them are the pairs that a column turns, a quarter those
            that a row turns.
        theta: The base of the frequencies.

    Returns:
        Two tables [side * side, channels / 2]. The angles are upstream's (`compute_axial_cis`),
        which are products of float32; their cosines and sines are exact and rounded once.
    """
    quarter = channels // 4
    with mpmath.workprec(_BITS):
        powers = [mpmath.mpf(theta) ** (mpmath.mpf(4 * i) / channels) for i in range(quarter)]
    frequencies = np.float32(1) / np.array([float(power) for power in powers], np.float32)
    angles = np.outer(np.arange(side, dtype=np.float32), frequencies)
    cosines = _rounded(angles.tolist(), lambda angle, _: mpmath.cos(angle))
    sines = _rounded(angles.tolist(), lambda angle, _: mpmath.sin(angle))
    return (
        PlanePositions(cosines, cosines, first="columns"),
        PlanePositions(sines, sines, first="columns"),
    )


def fixed_product(left: Tensor, right: Tensor) -> Tensor:
    """Compute `left @ right` of two float32 matrices, summed in float64 in one order on any
    machine.
    """
    a, b = left.double().numpy(), right.double().numpy()
    total = np.zeros((a.shape[0], b.shape[1]), np.float64)
    for index in range(a.shape[1]):
        total += a[:, index, np.newaxis] * b[index]
    return torch.from_numpy(total.astype(np.float32))


def _rounded(angles: list[list[Any]], function: Callable[[Any, int], Any]) -> Floats:
    with mpmath.workprec(_BITS):
        rows = [[float(function(angle, i)) for i, angle in enumerate(row)] for row in angles]
    return np.array(rows, np.float64).astype(np.float32)
