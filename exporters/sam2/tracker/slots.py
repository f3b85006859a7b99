"""How the graphs of a static memory bank are called: one object at a time, in slots.

Their shapes are always the same. `memory_attention` has a slot for every frame and every pointer
that an object with one conditioning frame can remember, and a flag beside each: 1 where it is
filled, 0 where it is empty and what it holds does not matter. So an engine that is made for one
shape serves a video from its first frame.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.protocol import BAD_INPUT, StageError
from exporters.sam2.tracker.calls import Run, Tensors
from exporters.sam2.tracker.memory import POINTERS, RECENT

# The conditioning frame and the frames just before the current one.
FRAME_SLOTS: Final = 1 + RECENT
POINTER_SLOTS: Final = POINTERS

_OBJECT_BY_OBJECT: Final = ("memory_attention", "memory_encoder")
_SHARED: Final = "pix_feat"


def is_static(contract: Mapping[str, Any]) -> bool:
    """Return whether a contract's graphs are those of a static memory bank."""
    return bool(contract["options"].get("static", False))


def serve_slots(run: Run, filler: float = 0.0) -> Run:
    """Return what takes calls as the dynamic graphs do, and makes them with the static ones.

    Args:
        run: Runs one of the static graphs.
        filler: What empty slots hold.
    """

    def serve(graph: str, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        if graph not in _OBJECT_BY_OBJECT:
            return run(graph, inputs)
        batch = max(len(value) for value in inputs.values())
        rows = []
        for row in range(batch):
            one = {
                name: value if name == _SHARED else value[row : row + 1]
                for name, value in inputs.items()
            }
            rows.append(run(graph, one if "frames_ago" not in one else fill_slots(one, filler)))
        return {name: np.concatenate([made[name] for made in rows]) for name in rows[0]}

    return serve


def fill_slots(bank: Mapping[str, NDArray[Any]], filler: float = 0.0) -> Tensors:
    """Return the static memory attention's inputs: one object's bank, then empty slots.

    Args:
        bank: The dynamic memory attention's inputs: pix_feat, memory_features [1, F, 64, h, h],
            frames_ago [1, F], obj_ptrs [1, P, 256] and obj_ptr_positions [1, P]; F and P may be 0.
        filler: What empty slots hold; where it is not 0, their frames_ago is the largest number.

    Raises:
        StageError: The bank holds more than there are slots for (exit code 2).
    """
    frames, pointers = bank["frames_ago"].shape[1], bank["obj_ptr_positions"].shape[1]
    if frames > FRAME_SLOTS or pointers > POINTER_SLOTS:
        raise StageError(
            f"An object remembers {frames} frames and {pointers} pointers.",
            f"A static memory bank has room for {FRAME_SLOTS} and {POINTER_SLOTS}: for one frame "
            "on which the object was shown first, and for those just before the current one.",
            "Show an object first on one frame and correct it where it was followed to, or use "
            "the contract with its dynamic memory bank.",
            exit_code=BAD_INPUT,
        )
    latest = np.iinfo(np.int64).max if filler != 0 else 0
    return {
        _SHARED: bank[_SHARED],
        "memory_features": _fill(bank["memory_features"], FRAME_SLOTS, filler),
        "frames_ago": _fill(bank["frames_ago"], FRAME_SLOTS, latest),
        "obj_ptrs": _fill(bank["obj_ptrs"], POINTER_SLOTS, filler),
        "obj_ptr_positions": _fill(bank["obj_ptr_positions"], POINTER_SLOTS, filler),
        "frames_valid": _flags(frames, FRAME_SLOTS),
        "pointers_valid": _flags(pointers, POINTER_SLOTS),
    }


def _fill(values: NDArray[Any], slots: int, filler: float) -> NDArray[Any]:
    """Return [1, n, ...] enlarged to [1, slots, ...]."""
    filled = np.full((1, slots, *values.shape[2:]), filler, values.dtype)
    filled[:, : values.shape[1]] = values
    return filled


def _flags(filled: int, slots: int) -> NDArray[np.float32]:
    return (np.arange(slots) < filled).astype(np.float32)[np.newaxis]
