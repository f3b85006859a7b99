"""Holes of masks are filled as upstream's CUDA kernel fills them."""

import collections
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.sam2.tracker.holes import FILLED, fill_holes


def _flood(logits: NDArray[np.float32], area: int) -> NDArray[np.float32]:
    """Hole filling as one would explain it: walk each region, count it, fill it."""
    filled = logits.copy()
    height, width = logits.shape
    visited = logits > 0
    for start in itertools.product(range(height), range(width)):
        if visited[start]:
            continue
        region, queue = [start], collections.deque([start])
        visited[start] = True
        while queue:
            row, column = queue.popleft()
            for down, right in itertools.product((-1, 0, 1), repeat=2):
                y, x = row + down, column + right
                if 0 <= y < height and 0 <= x < width and not visited[y, x]:
                    visited[y, x] = True
                    region.append((y, x))
                    queue.append((y, x))
        if len(region) <= area:
            for pixel in region:
                filled[pixel] = FILLED
    return filled


@pytest.mark.parametrize("density", [0.02, 0.1, 0.2, 0.35, 0.5, 0.8])
def test_holes_are_those_that_a_flood_finds(density: float) -> None:
    generator = np.random.default_rng(int(density * 100))
    changed = 0
    for area in (1, 2, 3, 8, 20):
        shape = generator.integers(1, 40, 2)
        logits = np.where(generator.random(shape) < density, -1, 1).astype(np.float32)
        logits *= generator.random(shape).astype(np.float32)
        filled = fill_holes(logits, area)
        np.testing.assert_array_equal(filled, _flood(logits, area))
        assert filled.dtype == np.float32
        changed += int((filled != logits).sum())
    assert changed or density == 0.8


@pytest.mark.parametrize("transposed", [False, True])
def test_long_thin_and_winding_regions_are_measured_whole(transposed: bool) -> None:
    logits = np.ones((40, 40), np.float32)
    logits[2, 2:10] = -1  # 8 in a row: a hole
    logits[5, 2:11] = -1  # 9 in a row: none
    for step in range(8):
        logits[10 + step, 2 + step] = -1  # 8 on a diagonal, connected by their corners
        logits[20 + step % 2, 2 + step] = -1  # a zigzag of 8, and of 9 below
    for step in range(9):
        logits[30 + step % 2, 2 + step] = -1
    logits[1::4, 20:] = -1  # a winding corridor without an end nearby
    logits[1:-1:8, 39] = -1
    logits[3:6, 20] = -1
    logits = logits.T.copy() if transposed else logits
    filled = fill_holes(logits, 8)
    np.testing.assert_array_equal(filled, _flood(logits, 8))
    assert int((filled != logits).sum()) == 24


def test_zero_is_background_and_no_area_fills_nothing() -> None:
    logits = np.ones((5, 5), np.float32)
    logits[2, 2] = 0
    assert fill_holes(logits, 8)[2, 2] == np.float32(FILLED)
    assert fill_holes(logits, 0) is logits
    assert fill_holes(np.full((5, 5), -1024, np.float32), 8).max() == -1024
