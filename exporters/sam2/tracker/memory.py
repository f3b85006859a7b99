"""What the tracker remembers of one object, and which of it the next frame is shown.

A frame on which the object was first prompted is a *conditioning* frame; what the model saw there
is kept as long as the object is followed. Of the other frames the spatial features of the latest
`RECENT` and the pointers of the latest `POINTERS` - 1 matter, so an object takes the same room
after a minute as after a day.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RECENT: Final = 6
POINTERS: Final = 16

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What is kept of one object on one frame.

    Attributes:
        frame: The frame's number.
        features: float32 [64, side, side] from the memory encoder, rounded to bfloat16.
        pointer: float32 [256] from the mask decoder.
        conditioning: Whether the object was prompted here before it was ever followed to here.
    """

    frame: int
    features: Floats
    pointer: Floats
    conditioning: bool


@dataclass(frozen=True, kw_only=True)
class Recall:
    """What one frame is shown of the past of one object.

    Attributes:
        features: float32 [F, 64, side, side], conditioning frames first, then old to new.
        frames_ago: int64 [F], 0 for a conditioning frame, else 6 to 1.
        pointers: float32 [P, 256], of conditioning frames first, then new to old.
        offsets: int64 [P], how many frames ago each pointer was made.
    """

    features: Floats
    frames_ago: NDArray[np.int64]
    pointers: Floats
    offsets: NDArray[np.int64]

    @property
    def sizes(self) -> tuple[int, int]:
        """(F, P). Objects with equal sizes fit into one call of the memory attention."""
        return len(self.frames_ago), len(self.offsets)


class MemoryBank:
    """The memories of one object."""

    def __init__(self) -> None:
        self._conditioning: list[Memory] = []
        self._features: dict[int, Floats] = {}
        self._pointers: dict[int, Floats] = {}

    def remember(self, memory: Memory) -> None:
        """Take in the newest frame, and forget what no later frame can be shown."""
        if memory.conditioning:
            self._conditioning.append(memory)
        else:
            self._features[memory.frame] = memory.features
            self._pointers[memory.frame] = memory.pointer
        _forget(self._features, memory.frame + 1 - RECENT)
        _forget(self._pointers, memory.frame + 2 - POINTERS)

    def recall(self, frame: int, num_frames: int | None = None) -> Recall:
        """Select what a frame is shown.

        Args:
            frame: The frame to be segmented, later than every remembered one, of which at least
                one is a conditioning frame.
            num_frames: Frames in the whole video; None in a live stream.

        Returns:
            All conditioning frames, and of the others the features at most `RECENT` and the
            pointers at most `pointer_reach(num_frames)` frames old.
        """
        features = [memory.features for memory in self._conditioning]
        frames_ago = [0] * len(features)
        for ago in range(RECENT, 0, -1):
            if frame - ago in self._features:
                features.append(self._features[frame - ago])
                frames_ago.append(ago)
        pointers = [memory.pointer for memory in self._conditioning]
        offsets = [frame - memory.frame for memory in self._conditioning]
        for ago in range(1, pointer_reach(num_frames) + 1):
            if frame - ago in self._pointers:
                pointers.append(self._pointers[frame - ago])
                offsets.append(ago)
        return Recall(
            features=np.stack(features),
            frames_ago=np.array(frames_ago, np.int64),
            pointers=np.stack(pointers),
            offsets=np.array(offsets, np.int64),
        )


def pointer_reach(num_frames: int | None) -> int:
    """Return how many frames back pointers are looked for, which is also what their ages are
    divided by.

    15, or less in a video of fewer than `POINTERS` frames; None means a live stream.
    """
    return (POINTERS if num_frames is None else min(num_frames, POINTERS)) - 1


def round_to_bfloat16(values: Floats) -> Floats:
    """Round to the nearest number with 8 significant bits, ties to even; stays float32.

    This is the precision in which memories are kept: the upper half of a float32.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = ((bits + half) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(values), values, rounded).astype(np.float32, copy=False)


def _forget(kept: dict[int, Any], first: int) -> None:
    """Drop what is older than frame `first`."""
    for frame in [frame for frame in kept if frame < first]:
        del kept[frame]
