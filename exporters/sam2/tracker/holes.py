"""Fills the small holes that the decoder leaves in a mask."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FILLED: Final = 0.1


def fill_holes(logits: NDArray[np.float32], area: int) -> NDArray[np.float32]:
    """Turn small holes into foreground.

    A hole is a group of background pixels (logit <= 0), connected by sides or corners, of at most
    `area` pixels; specks at the border count as well.

    Every background pixel starts with a label of its own, and in each step takes the largest one
    around it. No two pixels of a hole lie `area` steps apart, so after `area` - 1 steps a hole
    bears a single label and touches no other; a larger region may still bear several.

    Args:
        logits: float32 [h, w].
        area: The largest hole in pixels; 0 fills none.

    Returns:
        float32 [h, w], `FILLED` where a hole was; the argument itself if there was none.
    """
    background = logits <= 0
    if area <= 0 or not background.any():
        return logits
    labels = np.where(background, np.arange(1, logits.size + 1).reshape(logits.shape), 0)
    for _ in range(area - 1):
        labels = np.where(background, _largest_around(labels), 0)
    # The largest label around is the pixel's own, and so is the smallest.
    mirrored = np.where(background, logits.size + 1 - labels, 0)
    alone = (_largest_around(labels) == labels) & (_largest_around(mirrored) == mirrored)
    sizes = np.bincount(labels.ravel(), minlength=logits.size + 1)
    mixed = np.zeros(sizes.size, dtype=np.bool_)
    mixed[labels[background & ~alone]] = True
    hole = background & ((sizes <= area) & ~mixed)[labels]
    return np.where(hole, np.float32(FILLED), logits) if hole.any() else logits


def _largest_around(values: NDArray[Any]) -> NDArray[Any]:
    """Return the largest of each pixel and its eight neighbours; values are at least 0."""
    padded = np.pad(values, 1)
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    return np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
