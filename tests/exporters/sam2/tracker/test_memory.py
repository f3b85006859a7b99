"""What the tracker remembers and recalls, and how it fills holes."""

import collections
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from exporters.sam2.tracker.holes import FILLED, fill_holes
from exporters.sam2.tracker.memory import Memory, MemoryBank, pointer_reach, round_to_bfloat16


def _memory(frame: int, *, conditioning: bool = False) -> Memory:
    return Memory(
        frame=frame,
        features=np.full((64, 2, 2), frame, np.float32),
        pointer=np.full(256, frame, np.float32),
        conditioning=conditioning,
    )


def _frames(values: NDArray[Any]) -> list[int]:
    return [int(value.flat[0]) for value in values]


def test_the_first_frame_is_recalled_beside_the_six_latest() -> None:
    bank = MemoryBank()
    for frame in range(20):
        bank.remember(_memory(frame, conditioning=frame == 0))
    recall = bank.recall(20, 100)
    assert _frames(recall.features) == [0, 14, 15, 16, 17, 18, 19]
    assert recall.frames_ago.tolist() == [0, 6, 5, 4, 3, 2, 1]
    assert _frames(recall.pointers) == [0, *range(19, 4, -1)]
    assert recall.offsets.tolist() == [20, *range(1, 16)]
    assert recall.sizes == (7, 16)


def test_a_short_video_has_fewer_pointers() -> None:
    assert [pointer_reach(frames) for frames in (2, 15, 16, 17, None)] == [1, 14, 15, 15, 15]
    bank = MemoryBank()
    for frame in range(5):
        bank.remember(_memory(frame, conditioning=frame == 0))
    assert bank.recall(5, 6).offsets.tolist() == [5, 1, 2, 3, 4]
    assert bank.recall(5, 4).offsets.tolist() == [5, 1, 2, 3]


def test_frames_without_the_object_are_left_out() -> None:
    bank = MemoryBank()
    for frame in (3, 4, 6, 9):
        bank.remember(_memory(frame, conditioning=frame in (3, 6)))
    recall = bank.recall(10)
    assert _frames(recall.features) == [3, 6, 4, 9]
    assert recall.frames_ago.tolist() == [0, 0, 6, 1]
    assert _frames(recall.pointers) == [3, 6, 9, 4]
    assert recall.offsets.tolist() == [7, 4, 1, 6]


def test_a_live_stream_takes_no_more_room_with_time() -> None:
    bank = MemoryBank()
    bank.remember(_memory(0, conditioning=True))
    for frame in range(1, 500):
        bank.remember(_memory(frame))
    kept = [value for one in vars(bank).values() for value in one]
    assert len(kept) == 1 + 6 + 15
    assert bank.recall(500).sizes == (7, 16)


def test_bfloat16_is_rounded_as_torch_does_it() -> None:
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 1 << 32, 200_000, dtype=np.uint32)
    ties = (np.arange(1 << 15, dtype=np.uint32) << 16) | np.uint32(0x8000)
    values = np.concatenate([bits, ties, ties | np.uint32(1), ties - np.uint32(1)]).view(np.float32)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 3.4e38], np.float32)
    values = np.concatenate([values, special])
    expected = torch.from_numpy(values).to(torch.bfloat16).to(torch.float32).numpy()
    np.testing.assert_array_equal(round_to_bfloat16(values), expected)
    assert round_to_bfloat16(values).dtype == np.float32


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
