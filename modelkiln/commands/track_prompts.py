"""What to follow through a video, as a command line says it.

A box is `[OBJECT:]x0,y0,x1,y1[@FRAME]`, a point `[OBJECT:]x,y[,label][@FRAME]`, in pixels of the
video. Frames are numbered from 0, which is the default. Boxes that name no object are objects 1, 2,
... in turn, but for numbers that other boxes name; a point may then name them. Points of a frame
that name no object are together a new one. All that is said of an object on one frame is one
prompt; on a later frame than its first it is a correction.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from modelkiln.errors import UsageError
from modelkiln.util import console

# A mask's pixel is its object's number, in eight bits.
MAX_OBJECT = 255
# As many as the decoder's batch in the engines that NVIDIA's MaskTracker builds; the stage's, too.
MAX_OBJECTS = 20
FORMS = {"box": "[OBJECT:]x0,y0,x1,y1[@FRAME]", "point": "[OBJECT:]x,y[,label][@FRAME]"}
EXAMPLES = {"box": "--box 40,30,220,180 or --box 2:40,30,220,180@12", "point": "--point 1:120,80"}
_COUNTS = {"box": (4,), "point": (2, 3)}
_match = re.compile(r"(?:([0-9]{1,9}):)?([^:@]+)(?:@([0-9]{1,9}))?").fullmatch


@dataclass(frozen=True, kw_only=True)
class VideoPrompt:
    """What is said of one object on one frame.

    Attributes:
        object: Its number, 1 to 255.
        frame: The frame's number, from 0.
        points: x, y and a label: 1 on the object, 0 off it; pixels of the video.
        box: x0, y0, x1, y1 around it, or None.
    """

    object: int
    frame: int
    points: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, ...] | None = None

    def document(self) -> dict[str, Any]:
        """Return it as the stage takes it."""
        return {
            "object": self.object,
            "frame": self.frame,
            "points": [list(one) for one in self.points],
            "box": None if self.box is None else list(self.box),
        }


@dataclass(frozen=True, kw_only=True)
class _Said:
    object: int | None
    frame: int
    numbers: tuple[float, ...]
    text: str


def read_video_prompts(boxes: Sequence[str], points: Sequence[str]) -> list[VideoPrompt]:
    """Return the prompts that a command line gives, by frame and object.

    Notes which numbers points have got that name no object, where there are boxes as well: they may
    have been meant as a correction of a box's object.

    Raises:
        UsageError: There is none, one is malformed, an object has two boxes on one frame, or there
            are more than `MAX_OBJECTS` objects.
    """
    said_boxes = [_read("box", text) for text in boxes]
    said_points = [_read("point", text) for text in points]
    if not (said_boxes or said_points):
        raise UsageError(
            "No object to follow.",
            "An object is shown by a box or by points.",
            f"For example: {EXAMPLES['box']}",
        )
    numbers = _free_numbers(one.object for one in said_boxes)
    box_of: dict[tuple[int, int], _Said] = {}
    for one in said_boxes:
        place = (one.frame, next(numbers) if one.object is None else one.object)
        if place in box_of:
            raise UsageError(
                f"Object {place[1]} has two boxes on frame {place[0]}.",
                f"They are {box_of[place].text} and {one.text}.",
                "Give one of them another object's number, or none.",
            )
        box_of[place] = one
    numbers = _free_numbers([*(place[1] for place in box_of), *(one.object for one in said_points)])
    points_of: dict[tuple[int, int], list[_Said]] = {}
    fresh: dict[int, int] = {}
    for one in said_points:
        if one.object is None and one.frame not in fresh:
            fresh[one.frame] = next(numbers)
        number = fresh[one.frame] if one.object is None else one.object
        points_of.setdefault((one.frame, number), []).append(one)
    objects = {number for _, number in (*box_of, *points_of)}
    if len(objects) > MAX_OBJECTS:
        raise UsageError(
            f"{len(objects)} objects are more than can be followed.",
            f"At most {MAX_OBJECTS} are followed at once.",
            "Follow them in several runs.",
        )
    if box_of and fresh:
        named = min(number for _, number in box_of)
        _note_fresh(fresh, named, next(one.text for one in said_points if one.object is None))
    return [
        VideoPrompt(
            object=number,
            frame=frame,
            points=tuple(map(_point, points_of.get((frame, number), ()))),
            box=box_of[frame, number].numbers if (frame, number) in box_of else None,
        )
        for frame, number in sorted({*box_of, *points_of})
    ]


def _read(kind: str, text: str) -> _Said:
    found = _match(text)
    numbers: tuple[float, ...] = ()
    if found:
        try:
            numbers = tuple(float(one) for one in found[2].split(","))
        except ValueError:
            numbers = ()
    if (
        found is None
        or len(numbers) not in _COUNTS[kind]
        or not all(abs(one) < 1e9 for one in numbers)
    ):
        raise UsageError(
            f"--{kind} {text!r} is not a {kind}.",
            f"It is written {FORMS[kind]}, in pixels of the video.",
            f"For example: {EXAMPLES[kind]}",
        )
    if kind == "point" and len(numbers) == 3 and numbers[2] not in (0, 1):
        raise UsageError(
            f"--point {text!r} has the label {numbers[2]:g}.",
            "A label is 1 (on the object) or 0 (off it).",
            "Leave the label out for 1.",
        )
    number = None if found[1] is None else int(found[1])
    if number is not None and not 1 <= number <= MAX_OBJECT:
        raise UsageError(
            f"--{kind} {text!r} names object {number}.",
            f"Objects have the numbers 1 to {MAX_OBJECT}.",
            f"For example: --{kind} 1:{found[2]}",
        )
    return _Said(object=number, frame=int(found[3] or 0), numbers=numbers, text=text)


def _note_fresh(fresh: Mapping[int, int], named: int, text: str) -> None:
    if len(fresh) == 1:
        (numbers,) = (f"object {number}" for number in fresh.values())
    else:
        places = (f"{number} (frame {frame})" for frame, number in sorted(fresh.items()))
        numbers = f"objects {', '.join(places)}"
    console.note(
        f"points without a number are {numbers}; "
        f"write {named}:{text.strip()} to correct object {named}"
    )


def _point(said: _Said) -> tuple[float, float, int]:
    x, y, *label = said.numbers
    return x, y, int(label[0]) if label else 1


def _free_numbers(taken: Iterable[int | None]) -> Iterator[int]:
    used = set(taken)
    return (number for number in count(1) if number not in used)
