"""Seeded inputs of the contract tracker's memory attention, the same for every side of the bench.

B = 1 object; F frames of memory of side x side cells with 64 channels; P pointers of 256 channels,
four tokens each.
"""

from typing import Final

import numpy as np

from bench.sides.side import Inputs

NAMES: Final = (
    "current_vision_feat",
    "current_vision_pos_embed",
    "memory_0",
    "memory_1",
    "memory_pos_embed",
    "cond_frame_id_diff",
)
OUTPUT: Final = "image_embed"
DYNAMIC_AXES: Final = {
    "memory_0": {0: "batch", 1: "num"},
    "memory_1": {0: "batch", 1: "buff_size"},
    "memory_pos_embed": {0: "batch", 1: "buff_size_embed"},
    OUTPUT: {0: "batch"},
}

TOKENS_PER_POINTER: Final = 4
MOST_POINTERS: Final = 16
_FRAMES_SINCE: Final = 20


def make_inputs(frames: int, pointers: int, side: int, seed: int = 0) -> Inputs:
    """Make all inputs, float32 by name, in the contract's order; the conditioning frame is 20
    frames ago.
    """
    random = np.random.default_rng(seed)
    cells = side * side
    shapes = {
        "current_vision_feat": (1, 256, side, side),
        "current_vision_pos_embed": (cells, 1, 256),
        "memory_0": (1, pointers, 256),
        "memory_1": (1, frames, 64, side, side),
        "memory_pos_embed": (1, cells * frames + TOKENS_PER_POINTER * pointers, 64),
    }
    made: Inputs = {
        name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()
    }
    return {**made, "cond_frame_id_diff": np.array(_FRAMES_SINCE, np.float32)}
