"""The prompts that references and checks use, on a picture of any size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """N prompt sets for one picture, as `SAM2ImagePredictor.predict` takes them.

    Points float32 [N, P, 2] in pixels (x, y) with labels float32 [N, P]: 1 foreground,
    0 background, -1 padding. Boxes float32 [N, 4] (x0, y0, x1, y1). `masks` says for each set
    whether it also brings a mask; all of one call's sets are served together where they agree.
    """

    name: str
    points: Floats | None = None
    labels: Floats | None = None
    boxes: Floats | None = None
    masks: tuple[bool, ...]

    @property
    def sets(self) -> int:
        """N."""
        return len(self.masks)

    def decoder_points(self) -> tuple[Floats, Floats]:
        """Return the decoder's `point_coords` and `point_labels`: a box's corners come first."""
        coords, labels = [], []
        if self.boxes is not None:
            coords.append(self.boxes.reshape(-1, 2, 2))
            labels.append(np.tile(np.array([[2, 3]], np.float32), (self.sets, 1)))
        if self.points is not None and self.labels is not None:
            coords.append(self.points)
            labels.append(self.labels)
        return np.concatenate(coords, axis=1), np.concatenate(labels, axis=1)


def make_prompts(size: int, generator: np.random.Generator) -> tuple[Prompts, ...]:
    """Make one of every kind of prompt, at random places in a picture of `size` x `size` pixels."""

    def points(sets: int, count: int) -> Floats:
        drawn = generator.random((sets, count, 2), dtype=np.float32)
        return np.asarray((drawn * np.float32(0.9) + np.float32(0.05)) * size, np.float32)

    def boxes(sets: int) -> Floats:
        corner = generator.random((sets, 2), dtype=np.float32) * np.float32(0.5)
        extent = generator.random((sets, 2), dtype=np.float32) * np.float32(0.3) + np.float32(0.15)
        return np.asarray(np.concatenate([corner, corner + extent], axis=1) * size, np.float32)

    def labels(*rows: tuple[int, ...]) -> Floats:
        return np.array(rows, np.float32)

    none = (False,)
    return (
        Prompts(name="one point", points=points(1, 1), labels=labels((1,)), masks=none),
        Prompts(name="three points", points=points(1, 3), labels=labels((1, 1, 1)), masks=none),
        Prompts(name="a negative point", points=points(1, 2), labels=labels((1, 0)), masks=none),
        Prompts(name="a box", boxes=boxes(1), masks=none),
        Prompts(
            name="a box and points",
            points=points(1, 2),
            labels=labels((1, 0)),
            boxes=boxes(1),
            masks=none,
        ),
        Prompts(
            name="two sets", points=points(2, 2), labels=labels((1, 1), (1, 0)), masks=none * 2
        ),
        Prompts(
            name="three sets, padded",
            points=points(3, 2),
            labels=labels((1, -1), (1, 1), (0, 1)),
            masks=none * 3,
        ),
        Prompts(name="three boxes", boxes=boxes(3), masks=none * 3),
        Prompts(name="a mask", points=points(1, 1), labels=labels((1,)), masks=(True,)),
        Prompts(
            name="two masks", points=points(2, 1), labels=labels((1,), (0,)), masks=(True, True)
        ),
        Prompts(
            name="three sets, one mask",
            points=points(3, 1),
            labels=labels((1,), (1,), (0,)),
            masks=(False, True, False),
        ),
    )
