"""What `reference` computes and `verify` compares: how much memory, how many objects, how long."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Combination = tuple[int, int, int]

PADDING: Final = -1
MAX_MEMORIES: Final = 7
MAX_POINTERS: Final = 16


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The sizes that are tried.

    Attributes:
        memory_frames: How many frames of spatial memory, 1 to 7.
        pointers: How many object pointers, 1 to 16.
        batches: How many objects in one call.
        every: Whether all combinations are tried, or only enough for every pair of sizes.
        loop_frames: How many frames the closed loop follows.
        video_frames: How many frames the video has; from 16 on it no longer matters.
    """

    memory_frames: tuple[int, ...]
    pointers: tuple[int, ...]
    batches: tuple[int, ...]
    every: bool = False
    loop_frames: int
    video_frames: int

    def combinations(self) -> tuple[Combination, ...]:
        """Return (memory frames, pointers, batch), smallest first."""
        product = list(itertools.product(self.memory_frames, self.pointers, self.batches))
        return tuple(product) if self.every else tuple(sorted(_cover_pairs(product)))


FULL_SIZE: Final = Grid(
    memory_frames=(1, 2, 7), pointers=(1, 16), batches=(1, 3), loop_frames=8, video_frames=16
)


def read_grid(params: Mapping[str, Any]) -> Grid:
    """Return the grid that a step asks for with `grid`, or `FULL_SIZE`."""
    given = params.get("grid")
    if given is None:
        return FULL_SIZE
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    return Grid(**plain)


def _cover_pairs(product: Sequence[Combination]) -> list[Combination]:
    """Return combinations that together hold every pair of values, found greedily."""

    def pairs(one: Combination) -> set[tuple[int, int, int, int]]:
        return {(a, one[a], b, one[b]) for a, b in itertools.combinations(range(len(one)), 2)}

    left = set().union(*map(pairs, product))
    chosen: list[Combination] = []
    while left:
        best = max(product, key=lambda one: len(pairs(one) & left))
        chosen.append(best)
        left -= pairs(best)
    return chosen


@dataclass(frozen=True, kw_only=True)
class Row:
    """One object's prompt for the decoder.

    Attributes:
        labels: 1 on the object, 0 off it, 2 and 3 a box's corners, -1 padding.
        mask: Whether the logits of an earlier mask are given too.
    """

    labels: tuple[int, ...]
    mask: bool = False

    @property
    def multimask(self) -> bool:
        """Meta's rule: up to one point, the best of three masks; a box counts as two points."""
        return sum(label != PADDING for label in self.labels) <= 1


@dataclass(frozen=True, kw_only=True)
class DecoderCase:
    """A call of the decoder: one row for each object, all of one length."""

    name: str
    rows: tuple[Row, ...]

    @property
    def masks(self) -> bool:
        """Whether any row brings a mask."""
        return any(row.mask for row in self.rows)


def decoder_cases(grid: Grid) -> tuple[DecoderCase, ...]:
    """Yield every kind of prompt, and rows of different kinds in one call.

    Each kind comes in every size of batch, or, to save time, in one of them in turn.
    """
    kinds = {
        "nothing": Row(labels=(PADDING,)),
        "a point": Row(labels=(1,)),
        "two points": Row(labels=(1, 0)),
        "three points": Row(labels=(1, 1, 0)),
        "a box": Row(labels=(2, 3)),
        "a box and a point": Row(labels=(2, 3, 0)),
        "a point and a mask": Row(labels=(1,), mask=True),
        "two points and a mask": Row(labels=(1, 0), mask=True),
        "nothing but a mask": Row(labels=(PADDING,), mask=True),
    }
    cases = [
        DecoderCase(name=f"{name} x {batch}" if batch > 1 else name, rows=(row,) * batch)
        for number, (name, row) in enumerate(kinds.items())
        for batch in (grid.batches if grid.every else _turn(grid.batches, number))
    ]
    mixed = (Row(labels=(1, PADDING)), Row(labels=(2, 3), mask=True), Row(labels=(0, 1)))
    padded = (Row(labels=(1, PADDING), mask=True), Row(labels=(PADDING, PADDING)))
    return (
        *cases,
        DecoderCase(name="different kinds", rows=mixed),
        DecoderCase(name="padded rows", rows=padded),
    )


def _turn(batches: Sequence[int], number: int) -> Sequence[int]:
    return (batches[number % len(batches)],)


@dataclass(frozen=True, kw_only=True)
class Bank:
    """One object's memory for memory attention, as the tracker may find it.

    Attributes:
        frames_ago: For each spatial memory: 0 of a conditioning frame, else 1 to 6.
        positions: For each pointer, frames since it was made over the divisor.
    """

    frames_ago: tuple[int, ...]
    positions: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class AttentionCase:
    """A call of memory attention. `conditioning` is how long ago the conditioning frame was where
    one number describes all pointers ([conditioning, 1, 2, ...] / 15), else None."""

    name: str
    banks: tuple[Bank, ...]
    conditioning: int | None


def attention_cases(grid: Grid, generator: np.random.Generator) -> tuple[AttentionCase, ...]:
    """Return a bank of one conditioning frame for every combination; then banks that differ by
    object.
    """
    cases: list[AttentionCase] = []
    for frames, pointers, batch in grid.combinations():
        ago = int(generator.integers(max(frames, pointers), 60))
        offsets = (ago, *range(1, pointers))
        bank = Bank(
            frames_ago=(0, *range(frames - 1, 0, -1)),
            positions=tuple(offset / (MAX_POINTERS - 1) for offset in offsets),
        )
        name = f"{frames} frames, {pointers} pointers, batch {batch}"
        cases.append(AttentionCase(name=name, banks=(bank,) * batch, conditioning=ago))
    for frames, pointers, batch in ((2, 3, 3), (4, 5, 2)):
        banks = tuple(_odd_bank(frames, pointers, generator) for _ in range(batch))
        name = f"{batch} objects of different ages"
        cases.append(AttentionCase(name=name, banks=banks, conditioning=None))
    return tuple(cases)


def _odd_bank(frames: int, pointers: int, generator: np.random.Generator) -> Bank:
    """Make a bank with two conditioning frames or one, gaps in the recent ones, pointers with
    either sign.
    """
    conditioning = int(generator.integers(1, min(frames, 2) + 1))
    recent = generator.choice(np.arange(1, MAX_MEMORIES), frames - conditioning, replace=False)
    divisor = int(generator.integers(4, MAX_POINTERS))
    offsets = generator.integers(-20, 60, pointers)
    return Bank(
        frames_ago=(0,) * conditioning + tuple(int(one) for one in -np.sort(-recent)),
        positions=tuple(float(offset) / divisor for offset in offsets),
    )
