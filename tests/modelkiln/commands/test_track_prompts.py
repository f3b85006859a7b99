"""What a command line says about objects in a video."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkiln.commands.track_prompts import MAX_OBJECTS, VideoPrompt, read_video_prompts
from modelkiln.errors import UsageError


def test_boxes_count_from_one_and_points_may_name_them() -> None:
    found = read_video_prompts(
        ["0,0,1,1", "2:0,0,2,2", "0,0,3,3@4"], ["5,5", "6,6,0", "7,7@4", "1:8,8@4", "2:9,9,1"]
    )
    assert found == [
        VideoPrompt(object=1, frame=0, box=(0.0, 0.0, 1.0, 1.0)),
        VideoPrompt(object=2, frame=0, points=((9.0, 9.0, 1),), box=(0.0, 0.0, 2.0, 2.0)),
        VideoPrompt(object=4, frame=0, points=((5.0, 5.0, 1), (6.0, 6.0, 0))),
        VideoPrompt(object=1, frame=4, points=((8.0, 8.0, 1),)),
        VideoPrompt(object=3, frame=4, box=(0.0, 0.0, 3.0, 3.0)),
        VideoPrompt(object=5, frame=4, points=((7.0, 7.0, 1),)),
    ]


@pytest.mark.parametrize(
    ("boxes", "points", "said"),
    [
        (["1,2,3"], [], "is not a box"),
        (["1,2,3,nan"], [], "is not a box"),
        (["1,2,3,4@"], [], "is not a box"),
        (["1,2,3,4@-1"], [], "is not a box"),
        (["a:1,2,3,4"], [], "is not a box"),
        (["1:2:1,2,3,4"], [], "is not a box"),
        ([""], [], "is not a box"),
        ([], ["1"], "is not a point"),
        ([], ["1,2,3,4"], "is not a point"),
        ([], ["1,inf"], "is not a point"),
        ([], ["1,2,2"], "has the label 2"),
        ([], ["1,2,0.5"], "has the label 0.5"),
        ([], ["0:1,2"], "numbers 1 to 255"),
        ([], ["256:1,2"], "numbers 1 to 255"),
        (["1:0,0,1,1", "1:0,0,2,2"], [], "two boxes on frame 0"),
        (["0,0,1,1"] * 256, [], "256 objects are more"),
        (["0,0,1,1"] * MAX_OBJECTS, ["1,1@3"], f"At most {MAX_OBJECTS} are"),
        ([], [f"{number}:1,1@{number}" for number in range(200, 221)], f"At most {MAX_OBJECTS}"),
    ],
)
def test_a_wrong_prompt_is_refused(boxes: list[str], points: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_video_prompts(boxes, points)
    assert said in str(caught.value)
    assert caught.value.next


@given(st.lists(st.text(alphabet="0123456789:,@.-e ", max_size=12), max_size=3), st.booleans())
def test_no_text_breaks_the_prompts(texts: list[str], boxes: bool) -> None:
    try:
        found = read_video_prompts(texts if boxes else [], [] if boxes else texts)
    except UsageError:
        return
    assert all(1 <= one.object <= 255 and one.frame >= 0 for one in found)
    assert all(one.points or one.box for one in found)


def test_as_many_objects_as_the_stage_takes() -> None:
    assert len(read_video_prompts(["0,0,1,1"] * MAX_OBJECTS, [])) == MAX_OBJECTS
    named = [f"{number}:1,1@{number % 2}" for number in range(256 - MAX_OBJECTS, 256)]
    assert len(read_video_prompts([], named * 2)) == MAX_OBJECTS
    stage = Path(__file__).parents[3] / "exporters" / "media" / "object_prompts.py"
    found = re.findall(r"^MAX_OBJECTS\b.* = ([0-9]+)$", stage.read_text(), re.MULTILINE)
    assert found == [str(MAX_OBJECTS)]


@pytest.mark.parametrize(
    ("boxes", "points", "said"),
    [
        (
            ["0,0,1,1"],
            ["9,9@12"],
            "points without a number are object 2; write 1:9,9@12 to correct object 1\n",
        ),
        (
            ["3:0,0,1,1"],
            ["1:5,5", "9,9,0@12", "8,8@12", "7,7@4"],
            "points without a number are objects 4 (frame 4), 2 (frame 12); "
            "write 3:9,9,0@12 to correct object 3\n",
        ),
        (["0,0,1,1"], ["1:9,9@12"], ""),
        (["0,0,1,1"], [], ""),
        ([], ["9,9", "8,8@12"], ""),
    ],
)
def test_points_beside_boxes_say_whose_they_are(
    capsys: pytest.CaptureFixture[str], boxes: list[str], points: list[str], said: str
) -> None:
    read_video_prompts(boxes, points)
    assert capsys.readouterr() == ("", said)
