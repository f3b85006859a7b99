"""Prompts for objects on frames, checked before graphs run."""

from typing import Any

import pytest

from exporters.media.object_prompts import (
    LARGEST_NUMBER,
    MAX_OBJECTS,
    check_numbers,
    read_object_prompts,
)
from exporters.protocol import BAD_INPUT, StageError

HEIGHT, WIDTH, FRAMES = 60, 120, 6


def _prompt(number: Any, frame: Any, **shown: Any) -> dict[str, Any]:
    return {"object": number, "frame": frame, **(shown or {"points": [[1, 1, 1]]})}


def test_numbers_that_fit_are_taken() -> None:
    check_numbers([_prompt(LARGEST_NUMBER, 0), _prompt(1, 0), _prompt(1, 9, box=[0, 0, 5, 5])])
    check_numbers([_prompt(number, 0) for number in range(1, MAX_OBJECTS + 1)])


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ([], "There is no prompt."),
        ("1,2", "The prompts are '1,2'."),
        ([_prompt(True, 0)], "is not a prompt."),
        ([_prompt(1, 0.5)], "is not a prompt."),
        ([_prompt(0, 0)], "An object has the number 0."),
        ([_prompt(LARGEST_NUMBER + 1, 0)], "An object has the number 256."),
        ([_prompt(1, -1)], "Object 1 is prompted on frame -1."),
        ([_prompt(3, 2, points=[])], "Object 3 has no prompt on frame 2."),
        (
            [_prompt(1, 0), _prompt(1, 0, box=[0, 0, 5, 5])],
            "Object 1 is prompted twice on frame 0.",
        ),
        ([_prompt(number, 0) for number in range(1, MAX_OBJECTS + 2)], "21 objects are more than"),
    ],
)
def test_what_does_not_fit_is_refused(asked: Any, what: str) -> None:
    with pytest.raises(StageError) as caught:
        check_numbers(asked)
    assert what in caught.value.what
    assert caught.value.exit_code == BAD_INPUT


def test_prompts_come_by_frame_and_object() -> None:
    asked = [_prompt(2, 3), _prompt(9, 0, box=[0, 0, 5, 5]), _prompt(1, 3)]
    found = read_object_prompts(asked, FRAMES, HEIGHT, WIDTH)
    assert [(one.frame, one.number) for one in found] == [(0, 9), (3, 1), (3, 2)]
    assert (found[0].prompt.box, found[0].prompt.points) == ((0, 0, 5, 5), ())
    assert found[1].prompt.points == ((1, 1, 1),)


def test_a_frame_behind_the_end_is_refused() -> None:
    read_object_prompts([_prompt(1, FRAMES - 1)], FRAMES, HEIGHT, WIDTH)
    with pytest.raises(StageError, match="prompted on frame 6") as caught:
        read_object_prompts([_prompt(1, FRAMES)], FRAMES, HEIGHT, WIDTH)
    assert caught.value.next == "Choose a frame from 0 to 5."


def test_a_refusal_says_whose_prompt_it_was() -> None:
    asked = [_prompt(1, 0), _prompt(2, 4, points=[[WIDTH, 1, 1]])]
    with pytest.raises(StageError) as caught:
        read_object_prompts(asked, FRAMES, HEIGHT, WIDTH)
    assert caught.value.what == ("The point 120,1 lies outside the picture (object 2 on frame 4).")
    assert caught.value.exit_code == BAD_INPUT
