"""Captions and banners around what is drawn."""

import numpy as np

from exporters.media.sheet import INK, Caption, draw_sheet, random_weights_banner

CANVAS = np.full((50, 600, 3), 90, np.uint8)
RED = (186, 18, 28)


def test_a_contract_says_what_random_weights_make_meaningless() -> None:
    assert random_weights_banner({"name": "image"}) == "random weights: this mask means nothing"
    assert random_weights_banner({"yields": "text"}) == "random weights: this text means nothing"


def test_a_picture_without_words_is_left_alone() -> None:
    np.testing.assert_array_equal(draw_sheet(CANVAS, []), CANVAS)


def test_a_banner_is_above_and_captions_are_below() -> None:
    tint = (10, 200, 30)
    sheet = draw_sheet(CANVAS, [Caption(text="found", tint=tint)], banner="a warning")
    top = int((sheet[:, 0] == RED).all(axis=1).sum())
    assert top > 0 and (sheet[:top, 0] == RED).all()
    np.testing.assert_array_equal(sheet[top : top + 50], CANVAS)
    below = sheet[top + 50 :]
    assert (below[0, 0] == INK).all()
    assert (below == tint).all(axis=2).any()
    assert not (draw_sheet(CANVAS, [Caption(text="found")])[50:] == tint).all(axis=2).any()


def test_a_narrow_picture_is_in_the_middle() -> None:
    sheet = draw_sheet(CANVAS[:, :100], [])
    assert sheet.shape == (50, 480, 3)
    np.testing.assert_array_equal(sheet[:, 190:290], CANVAS[:, :100])
    assert (sheet[:, :190] == INK).all() and (sheet[:, 290:] == INK).all()


def test_a_long_caption_takes_more_lines() -> None:
    short, long = (
        len(draw_sheet(CANVAS, [Caption(text="word " * count)])) - len(CANVAS) for count in (3, 60)
    )
    assert long > 2 * short
