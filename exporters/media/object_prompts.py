"""What a user asks of a tracker: prompts for objects on frames, checked before graphs run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exporters.media.prompts import PromptSet, read_prompts
from exporters.protocol import BAD_INPUT, StageError

MAX_OBJECTS: Final = 20
"""As many as the decoder's batch in the engines that NVIDIA's MaskTracker builds."""

LARGEST_NUMBER: Final = 255
"""A mask's pixel is the number of an object, in 8 bits; 0 is none."""


@dataclass(frozen=True, kw_only=True)
class ObjectPrompt:
    """What the user shows of one object on one frame."""

    number: int
    frame: int
    prompt: PromptSet


def check_numbers(asked: Any) -> None:
    """Check what can be checked without the video: numbers, and how many objects there are.

    Raises:
        StageError: There is no prompt, one is malformed or shows nothing, a number does not fit
            into a mask, a frame is negative, there are more than `MAX_OBJECTS` objects, or an
            object is prompted twice on one frame (exit code 2).
    """
    if not isinstance(asked, list) or not asked:
        raise _refuse(
            "There is no prompt." if asked in ([], None) else f"The prompts are {asked!r}.",
            "The tracker follows what a point or a box shows it.",
            "Add --point X,Y or --box X0,Y0,X1,Y1.",
        )
    seen: set[tuple[int, int]] = set()
    for one in asked:
        number, frame = _whole(one, "object"), _whole(one, "frame")
        if not 1 <= number <= LARGEST_NUMBER:
            raise _refuse(
                f"An object has the number {number}.",
                f"A mask's pixels hold numbers from 1 to {LARGEST_NUMBER}; 0 means no object.",
                "Number the objects from 1.",
            )
        if frame < 0:
            raise _refuse(
                f"Object {number} is prompted on frame {frame}.",
                "Frames are counted from 0.",
                "Choose a frame from 0 on.",
            )
        if not one.get("points") and one.get("box") is None:
            raise _refuse(
                f"Object {number} has no prompt on frame {frame}.",
                "The tracker follows what a point or a box shows it.",
                "Give it a point or a box.",
            )
        if (number, frame) in seen:
            raise _refuse(
                f"Object {number} is prompted twice on frame {frame}.",
                "All that is shown of an object on a frame is one prompt.",
                "Put its points and its box together.",
            )
        seen.add((number, frame))
    objects = {number for number, _ in seen}
    if len(objects) > MAX_OBJECTS:
        raise _refuse(
            f"{len(objects)} objects are more than fit.",
            f"At most {MAX_OBJECTS} are followed at a time.",
            "Track them in several runs.",
        )


def read_object_prompts(
    asked: Sequence[Mapping[str, Any]], frames: int, height: int, width: int
) -> tuple[ObjectPrompt, ...]:
    """Check prompts that passed `check_numbers` against the video.

    Returns:
        The prompts by frame and object.

    Raises:
        StageError: A prompt is malformed, or lies outside its frame or the video (exit code 2).
    """
    prompts = []
    for one in asked:
        number, frame = int(one["object"]), int(one["frame"])
        if frame >= frames:
            raise _refuse(
                f"Object {number} is prompted on frame {frame}.",
                f"The video has {frames} frames, counted from 0.",
                f"Choose a frame from 0 to {frames - 1}.",
            )
        box = one.get("box")
        given = {"points": one.get("points"), "boxes": None if box is None else [box]}
        try:
            (prompt,) = read_prompts(given, None, height, width)
        except StageError as error:
            what = f"{error.what.removesuffix('.')} (object {number} on frame {frame})."
            raise StageError(what, error.why, error.next, error.exit_code) from error
        prompts.append(ObjectPrompt(number=number, frame=frame, prompt=prompt))
    return tuple(sorted(prompts, key=lambda one: (one.frame, one.number)))


def _whole(one: Any, name: str) -> int:
    value = one.get(name) if isinstance(one, dict) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _refuse(
        f"{one!r} is not a prompt.",
        f"Its {name} is {value!r}.",
        f"Give the {name} as a whole number.",
    )


def _refuse(what: str, why: str, next: str) -> StageError:  # noqa: A002
    return StageError(what, why, next, exit_code=BAD_INPUT)
