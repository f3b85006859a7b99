"""Who is pointed at, when: the play that upstream's predictor and the graphs both follow."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from exporters.sam2.tracker.scene import ACTORS, Box

Point = tuple[float, float, int]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """All that is shown of one object on one frame; coordinates are pixels of the frame.

    Attributes:
        frame: The frame, from 0.
        object: The object's number, from 1.
        points: x, y and a label: 1 on the object, 0 off it.
        box: x0, y0, x1, y1, or None.
        late: Whether the object is tracked to this frame first, so that this is a correction.
    """

    frame: int
    object: int
    points: tuple[Point, ...] = ()
    box: Box | None = None
    late: bool = False


def make_script(frames: int) -> tuple[Prompt, ...]:
    """Return the prompts of a play of so many frames, in the order in which they are given.

    Object 1 leaves and returns; object 2 starts later, with a box, and is corrected on the frame on
    which object 3 starts. From 16 frames on there is an object 4 with every kind of afterthought:
    a second prompt on its first frame, a second conditioning frame, two corrections of one frame.
    """
    start, correction = round(frames / 4), round(frames * 5 / 8)
    prompts = [
        Prompt(frame=0, object=1, points=(_inside(0, 0, frames),)),
        Prompt(frame=start, object=2, box=ACTORS[1].box_at(start / frames)),
        Prompt(frame=correction, object=3, points=(_inside(2, correction, frames),)),
        Prompt(
            frame=correction, object=2, points=(_inside(1, correction, frames, -0.2),), late=True
        ),
    ]
    if frames >= 16:
        again, last = correction - 4, correction + 3
        first = (_inside(2, 1, frames, 0.2), _inside(0, 1, frames, label=0))
        both = (_inside(2, last, frames), _inside(1, last, frames, label=0))
        prompts += [
            Prompt(frame=1, object=4, points=first[:1]),
            Prompt(frame=1, object=4, points=first),
            Prompt(frame=again, object=4, points=(_inside(2, again, frames, 0.3),)),
            Prompt(frame=last, object=4, points=both[:1], late=True),
            Prompt(frame=last, object=4, points=both, late=True),
        ]
    return tuple(sorted(prompts, key=lambda prompt: (prompt.frame, prompt.late)))


def plain_objects(script: Iterable[Prompt]) -> tuple[int, ...]:
    """Return the objects that were shown once, by one point: all that the contract `tracker`
    knows.
    """
    by_object: dict[int, list[Prompt]] = {}
    for prompt in script:
        by_object.setdefault(prompt.object, []).append(prompt)
    return tuple(
        number
        for number, (first, *others) in sorted(by_object.items())
        if not others and first.box is None and len(first.points) == 1
    )


def to_json(script: Iterable[Prompt]) -> list[dict[str, Any]]:
    """Return prompts as plain data."""
    return [asdict(prompt) for prompt in script]


def from_json(document: Iterable[Mapping[str, Any]]) -> tuple[Prompt, ...]:
    """Return what `to_json` made."""
    return tuple(
        Prompt(
            frame=one["frame"],
            object=one["object"],
            points=tuple((x, y, label) for x, y, label in one["points"]),
            box=None if one["box"] is None else (*one["box"],),
            late=one["late"],
        )
        for one in document
    )


def _inside(actor: int, frame: int, frames: int, off: float = 0.0, label: int = 1) -> Point:
    """Return a point of an actor: its centre, or so many heights below."""
    x0, y0, x1, y1 = ACTORS[actor].box_at(frame / frames)
    return (x0 + x1) / 2, (y0 + y1) / 2 + off * (y1 - y0), label
