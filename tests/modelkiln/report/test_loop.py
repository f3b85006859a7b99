"""The closed loop in a report: its worst, and its plot."""

import pytest

from modelkiln.report.loop import is_close, is_number, plot_loop, same_sign, summarize_loop
from tests.modelkiln.report.loop_case import LOOP, step


def test_a_figure_that_is_no_number_is_not_passed_over() -> None:
    found = summarize_loop([*LOOP, step(1, 3, iou=None, pointer_cosine=1e308)])
    assert (found["lowest_iou"], found["lowest_cosine"]) == (None, None)
    assert summarize_loop([])["lowest_iou"] is None


def test_the_plot_of_a_loop_has_a_line_for_each_object_in_each_panel() -> None:
    plot = plot_loop(LOOP)
    overlap, occlusion, cosine = plot["panels"]
    assert [one["number"] for one in plot["objects"]] == [1, 2]
    assert [len(line["dots"]) for line in overlap["lines"]] == [3, 2]
    x = [dot["x"] for dot in overlap["lines"][0]["dots"]]
    assert x == [plot["left"], (plot["left"] + plot["right"]) / 2, plot["right"]]
    assert overlap["lines"][1]["dots"][0]["x"] == x[1]
    assert [label for _, label in plot["frames"]] == ["0", "1", "2"]
    # The mask that does not count sets no scale, and stands at the foot.
    assert [label for _, label in overlap["ticks"]] == ["0.999000", "1"]
    low = overlap["lines"][1]["dots"][1]
    assert low["faint"] and low["y"] == overlap["bottom"]
    assert 0 < overlap["lines"][0]["dots"][0]["y"] - overlap["top"] < 84
    assert [label for _, label in occlusion["ticks"]] == ["-2", "0", "3.001"]
    up, down = occlusion["lines"][1]["dots"]
    zero = occlusion["ticks"][1][0]
    assert up["y"] < zero < down["y"] == occlusion["bottom"]
    assert occlusion["lines"][1]["rings"][1] == (down["x"], down["y"])
    assert [label for _, label in cosine["ticks"]] == ["0.999900", "1"]
    assert cosine["lines"][0]["rings"] == []


def test_a_loop_of_one_frame_and_one_with_many_can_be_drawn() -> None:
    assert [label for _, label in plot_loop([step()])["frames"]] == ["0"]
    many = plot_loop([step(number, frame) for number in range(1, 9) for frame in range(200)])
    assert len(many["frames"]) <= 12
    assert {one["colour"] for one in many["objects"]} == set(range(6))
    assert all(
        one["x"] + 60 < many["width"] and one["y"] < many["height"] for one in many["objects"]
    )


def test_a_sign_that_differs_and_a_figure_that_is_missing_are_told_apart() -> None:
    assert same_sign(step(occlusion=0.1, expected_occlusion=9.0))
    assert not same_sign(step(occlusion=0.0, expected_occlusion=0.1))
    assert not same_sign(step(occlusion=None))
    assert is_close(step())
    assert is_close(step(iou=None, counted=False)), "a mask that does not count needs no overlap"
    assert not is_close(step(iou=None))
    assert not is_close(step(pointer_cosine=float("nan")))
    assert not is_close(step(ok=False))


def test_a_loop_is_summed_up() -> None:
    found = summarize_loop([*LOOP, step(3, 3, occlusion=-1.0)])
    assert found == {
        "frames": 4,
        "objects": 3,
        "masks": 6,
        "counted": 5,
        "failed": 0,
        "lowest_iou": 0.9995,
        "lowest_cosine": 0.99999,
        "signs": 1,
        "seen": 5,
        "hidden": 1,
    }


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), 1e300, -1e301])
def test_what_json_has_for_no_number_is_none(value: float | None) -> None:
    assert not is_number(value)
    assert is_number(0.0) and is_number(-1e299)
