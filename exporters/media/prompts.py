"""What a user asks for: points, boxes and a mask, checked against the picture before graphs run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.media.pictures import load_picture
from exporters.protocol import BAD_INPUT, StageError

Point = tuple[float, float, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """The prompts for one object; coordinates are pixels of the picture, from its top left corner.

    Attributes:
        points: x, y and a label: 1 on the object, 0 off it.
        box: x0, y0, x1, y1 around the object.
        mask: bool [H, W], a guess at the object.
    """

    points: tuple[Point, ...] = ()
    box: Box | None = None
    mask: NDArray[np.bool_] | None = None

    def describe(self) -> str:
        """Return it in words, such as "2 points and a box"."""
        count = len(self.points)
        parts = [f"{count} points" if count > 1 else "a point"] if count else []
        parts += ["a box"] if self.box else []
        parts += ["a mask"] if self.mask is not None else []
        return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]


def read_prompts(
    params: Mapping[str, Any], mask: Path | None, height: int, width: int
) -> tuple[PromptSet, ...]:
    """Read and check the prompts of a step.

    Points, at most one box and the mask make one set. Several boxes make a set each; which of
    them further points or a mask would belong to is not said, so those are refused.

    Args:
        params: `points`, a list of [x, y, label], and `boxes`, a list of [x0, y0, x1, y1].
        mask: A picture file of the picture's size, brighter on the object.
        height: The picture's height.
        width: The picture's width.

    Raises:
        StageError: There is no prompt, or one is malformed or does not lie in the picture
            (exit code 2).
    """
    points = tuple(_point(value, height, width) for value in _list(params, "points"))
    boxes = tuple(_box(value, height, width) for value in _list(params, "boxes"))
    if len(boxes) > 1:
        if points or mask is not None:
            raise _refuse(
                f"{len(boxes)} boxes were given together with {'points' if points else 'a mask'}.",
                "Each box is an object of its own; nothing says which one the rest is about.",
                "Give one box with its points, and run once for each object.",
            )
        return tuple(PromptSet(box=box) for box in boxes)
    if not (points or boxes or mask):
        raise _refuse(
            "There is no prompt.",
            "The graphs segment what a point, a box or a mask shows them.",
            f"Add --point X,Y or --box X0,Y0,X1,Y1, such as --point {width // 2},{height // 2}.",
        )
    guess = None if mask is None else read_mask(mask, height, width)
    return (PromptSet(points=points, box=boxes[0] if boxes else None, mask=guess),)


def read_mask(path: Path, height: int, width: int) -> NDArray[np.bool_]:
    """Read a mask: foreground is what is brighter than half of the brightest value.

    So 0 and 1, 0 and 255, and soft edges all work.

    Returns:
        bool [height, width], neither empty nor full.

    Raises:
        StageError: The file is no picture, of another size, or of one value (exit code 2).
    """
    grey = load_picture(path, "mask prompt").max(axis=2)
    if grey.shape != (height, width):
        raise _refuse(
            f"The mask prompt is {grey.shape[1]} x {grey.shape[0]}, "
            f"the picture {width} x {height} pixels.",
            "A mask prompt covers the picture pixel by pixel.",
            "Resize the mask to the picture's size.",
        )
    foreground = np.asarray(grey > grey.max() / 2)
    if foreground.all() or not foreground.any():
        raise _refuse(
            f"The mask prompt marks {'everything' if foreground.any() else 'nothing'}.",
            "All of its pixels are equally bright, or only its transparency differs.",
            "Paint the object white and the rest black.",
        )
    return foreground


def _list(params: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = params.get(name) or []
    if not isinstance(value, list):
        raise _refuse(f"{name} is {value!r}.", "A list was expected.", f"Give {name} as a list.")
    return value


def _point(value: Any, height: int, width: int) -> Point:
    x, y, label = _numbers(value, 3, "point", "x,y,label")
    if label not in (0, 1):
        raise _refuse(
            f"The point {x:g},{y:g} has the label {label:g}.",
            "A label is 1 (on the object) or 0 (off it).",
            f"Use --point {x:g},{y:g},1 or --point {x:g},{y:g},0.",
        )
    if not (0 <= x < width and 0 <= y < height):
        raise _refuse(
            f"The point {x:g},{y:g} lies outside the picture.",
            f"The picture has {width} x {height} pixels, counted from 0 at the top left.",
            f"Choose x from 0 to {width - 1} and y from 0 to {height - 1}.",
        )
    return x, y, int(label)


def _box(value: Any, height: int, width: int) -> Box:
    x0, y0, x1, y1 = _numbers(value, 4, "box", "x0,y0,x1,y1")
    text = f"{x0:g},{y0:g},{x1:g},{y1:g}"
    if x0 > x1 or y0 > y1:
        raise _refuse(
            f"The box {text} is reversed.",
            "Its upper left corner is x0,y0 and its lower right one x1,y1.",
            f"Use --box {min(x0, x1):g},{min(y0, y1):g},{max(x0, x1):g},{max(y0, y1):g}.",
        )
    if x0 == x1 or y0 == y1:
        raise _refuse(
            f"The box {text} is empty.",
            "It has no width or no height.",
            "Give two corners that differ in x and in y.",
        )
    if not (x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height):
        raise _refuse(
            f"The box {text} does not lie within the picture.",
            f"The picture has {width} x {height} pixels.",
            f"Keep x from 0 to {width} and y from 0 to {height}.",
        )
    return x0, y0, x1, y1


def _numbers(value: Any, count: int, name: str, form: str) -> list[float]:
    good = isinstance(value, list | tuple) and len(value) == count
    if good and all(
        isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one)
        for one in value
    ):
        return [float(one) for one in value]
    raise _refuse(
        f"{value!r} is not a {name}.",
        f"A {name} is {count} finite numbers, {form}.",
        f"Write --{name} {form} with numbers.",
    )


def _refuse(what: str, why: str, next: str) -> StageError:  # noqa: A002
    return StageError(what, why, next, exit_code=BAD_INPUT)
