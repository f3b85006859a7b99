"""Follows objects through a video with the four graphs: what a port to another language must do.

For each frame, in order:

1. `start_frame` takes the picture; the image encoder runs once for all objects, and not at all
   before the first of them is known.
2. `prompt`, for an object that the user points at, runs the mask decoder on the frame's own
   features. Such a frame is a conditioning frame of the object.
3. `track` takes every other known object: its bank recalls memories, the memory attention works
   them into the frame's features, and the decoder runs on these with a padding point only.
4. `prompt`, for an object that was tracked on this very frame, corrects it: memories as in 3, and
   besides the points the decoder gets the mask that is to be corrected.
5. Leaving the frame, the memory encoder turns each object's final mask into a memory.

Everything is numpy; `run(graph, inputs)` is all that is asked of a runtime.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exporters.media.pictures import preprocess
from exporters.protocol import BAD_INPUT, StageError
from exporters.sam2.tracker.calls import (
    Calls,
    Classic,
    Decoded,
    Extended,
    Floats,
    Mask,
    Run,
    Seen,
    Tensors,
)
from exporters.sam2.tracker.holes import fill_holes
from exporters.sam2.tracker.memory import Memory, MemoryBank, Recall, round_to_bfloat16

Point: TypeAlias = tuple[float, float, int]
Box: TypeAlias = tuple[float, float, float, float]

PADDING: Final = -1
BOX_FIRST, BOX_SECOND = 2, 3
FILL_HOLE_AREA: Final = 8

_LARGEST_LOGIT: Final = 32.0


@dataclass(kw_only=True)
class _Object:
    """What is known of an object: its past, and its state on the current frame if it has one."""

    bank: MemoryBank = field(default_factory=MemoryBank)
    now: Seen | None = None


class Tracker:
    """Follows objects through one video, frame by frame.

    Args:
        run: Runs a graph: its name and inputs by name give its outputs by name.
        extended: Whether the graphs are those of tracker-ex, not of tracker or tracker-legacy.
        size: S, the side of the square that the image encoder takes.
        num_frames: Frames in the whole video, which the model is told; None in a live stream.
        fill_hole_area: Holes of at most this many pixels at S / 4 are filled; 0 fills none.
        batch: How many objects may share a call. The classic contracts have one position for all
            conditioning frames of a call, so there it is always 1.

    Attributes:
        frame: The number of the current frame, -1 before the first.
    """

    def __init__(
        self,
        run: Run,
        *,
        extended: bool,
        size: int,
        num_frames: int | None = None,
        fill_hole_area: int = FILL_HOLE_AREA,
        batch: int = 1,
    ) -> None:
        self.frame = -1
        self._calls: Calls = Extended(run, num_frames) if extended else Classic(run)
        self._extended = extended
        self._size = size
        self._num_frames = num_frames
        self._fill_hole_area = fill_hole_area
        self._batch = batch if extended else 1
        self._objects: dict[int, _Object] = {}
        self._picture: NDArray[np.uint8] | None = None
        self._features: Tensors | None = None

    @property
    def objects(self) -> frozenset[int]:
        """The numbers of the objects that have been prompted so far."""
        return frozenset(self._objects)

    def start_frame(self, picture: NDArray[np.uint8]) -> None:
        """Leave the frame before and take the next one.

        Args:
            picture: uint8 [H, W, 3], the same size for the whole video.
        """
        self.finish()
        self.frame += 1
        if self._num_frames is not None and self.frame >= self._num_frames:
            raise ValueError(f"frame {self.frame} of a video of {self._num_frames} frames")
        self._picture = picture

    def prompt(self, number: int, points: Sequence[Point] = (), box: Box | None = None) -> Mask:
        """Segment an object on the current frame as the user shows it.

        The first prompt of an object on a frame that it was not tracked on makes this a
        conditioning frame; prompts that follow refine the mask. A prompt after `track` corrects
        what was tracked. All points that the user gave on this frame are given each time.

        Args:
            number: The object, a new one or a known one.
            points: x, y in pixels of the picture, and a label: 1 on the object, 0 off it.
            box: x0, y0, x1, y1 in pixels of the picture.

        Raises:
            StageError: The contract is a classic one and the object was prompted before
                (exit code 2).
        """
        if number in self._objects and not self._extended:
            raise one_prompt_only(number, self.frame)
        features = self._encode()
        known = self._objects.get(number) or _Object()
        before = known.now
        conditioning = before is None or before.conditioning
        if conditioning:
            embedded = self._calls.without_memory(features)
        else:
            embedded = self._calls.with_memory(features, [self._recall(known)])
        coords, labels = self._prompt_tensors(points, box)
        earlier = None
        if before is not None:
            earlier = np.clip(before.mask.logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)[np.newaxis]
        (decoded,) = self._calls.decode(features, embedded, coords, labels, earlier)
        self._objects[number] = known
        known.now = self._see(decoded, prompted=True, conditioning=conditioning)
        return known.now.mask

    def track(self) -> dict[int, Mask]:
        """Segment every known object that has no mask on the current frame yet.

        Returns:
            The masks made here by the objects' numbers.
        """
        recalls = {
            number: self._recall(known)
            for number, known in self._objects.items()
            if known.now is None
        }
        made: dict[int, Mask] = {}
        for numbers in self._calls_of(recalls):
            batch, features = len(numbers), self._encode()
            embedded = self._calls.with_memory(features, [recalls[number] for number in numbers])
            nowhere = np.zeros((batch, 1, 2), np.float32)
            padding = np.full((batch, 1), PADDING, np.float32)
            rows = self._calls.decode(features, embedded, nowhere, padding, None)
            for number, decoded in zip(numbers, rows, strict=True):
                seen = self._see(decoded, prompted=False, conditioning=False)
                self._objects[number].now = seen
                made[number] = seen.mask
        return {number: made[number] for number in recalls}

    def finish(self) -> None:
        """Leave the current frame: masks become memories. `start_frame` does it by itself."""
        present = [(known, known.now) for known in self._objects.values() if known.now]
        for start in range(0, len(present), self._batch):
            part = present[start : start + self._batch]
            features = self._calls.remember(self._encode(), [seen for _, seen in part])
            for (known, seen), row in zip(part, round_to_bfloat16(features), strict=True):
                memory = Memory(
                    frame=self.frame,
                    features=row,
                    pointer=seen.mask.pointer,
                    conditioning=seen.conditioning,
                )
                known.bank.remember(memory)
                known.now = None
        self._picture = self._features = None

    def _recall(self, known: _Object) -> Recall:
        return known.bank.recall(self.frame, self._num_frames)

    def _calls_of(self, recalls: Mapping[int, Recall]) -> Iterator[list[int]]:
        """Yield objects that share a call: their banks are equally large."""
        groups: dict[tuple[int, int], list[int]] = {}
        for number, recall in recalls.items():
            groups.setdefault(recall.sizes, []).append(number)
        for group in groups.values():
            for start in range(0, len(group), self._batch):
                yield group[start : start + self._batch]

    def _see(self, decoded: Decoded, *, prompted: bool, conditioning: bool) -> Seen:
        mask = Mask(
            logits=fill_holes(decoded.logits, self._fill_hole_area),
            iou=decoded.iou,
            occlusion=decoded.occlusion,
            pointer=decoded.pointer,
        )
        return Seen(mask=mask, decoded=decoded, prompted=prompted, conditioning=conditioning)

    def _prompt_tensors(self, points: Sequence[Point], box: Box | None) -> tuple[Floats, Floats]:
        """Return float32 [1, P, 2] in pixels of the square and [1, P]: a box's corners
        come first.
        """
        rows = list(points)
        if box is not None:
            rows = [(*box[:2], BOX_FIRST), (*box[2:], BOX_SECOND), *rows]
        if not rows:
            raise ValueError("a prompt has a point or a box")
        height, width = self._require_picture().shape[:2]
        extent = np.array((width, height), np.float32)
        coords = np.array([row[:2] for row in rows], np.float32) / extent
        labels = np.array([row[2] for row in rows], np.float32)
        return coords[np.newaxis] * np.float32(self._size), labels[np.newaxis]

    def _encode(self) -> Tensors:
        """Return the current frame's features, made when they are first asked for."""
        if self._features is None:
            image = preprocess_frame(self._require_picture(), self._size)
            self._features = self._calls.encode(image)
        return self._features

    def _require_picture(self) -> NDArray[np.uint8]:
        if self._picture is None:
            raise ValueError("no frame has been started")
        return self._picture


def preprocess_frame(picture: NDArray[np.uint8], size: int) -> Floats:
    """Turn a frame into the encoder's input.

    Videos are resized by Pillow's bicubic filter, unlike single pictures; the rest is the same.

    Args:
        picture: uint8 [H, W, 3].
        size: S.

    Returns:
        float32 [1, 3, S, S].
    """
    return preprocess(picture, size, size, Image.Resampling.BICUBIC)


def one_prompt_only(number: int, frame: int) -> StageError:
    """Say why the classic contracts refuse a second prompt of an object."""
    return StageError(
        f"Object {number} is prompted once more on frame {frame}.",
        "This contract knows one prompt an object: it takes neither a mask to correct nor a "
        "second conditioning frame.",
        "Prompt each object once, or use the contract tracker-ex.",
        exit_code=BAD_INPUT,
    )
