"""What the tracker remembers and recalls, and how it fills holes."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

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
