"""Masks over pictures."""

import numpy as np

from exporters.media.object_prompts import MAX_OBJECTS
from exporters.media.overlay import (
    Drawn,
    canvas_size,
    caption_masks,
    draw_masks,
    draw_overlay,
    object_tint,
)


def test_the_overlay_is_neither_tiny_nor_huge() -> None:
    assert canvas_size(60, 120) == (384, 768)
    assert canvas_size(9000, 3000) == (2048, 683)
    assert canvas_size(1000, 900) == (1000, 900)
    assert canvas_size(1, 5000) == (1, 2048)


def test_the_overlay_tints_the_mask_and_leaves_the_rest() -> None:
    picture = np.full((800, 800, 3), 90, dtype=np.uint8)
    mask = np.zeros((800, 800), dtype=np.bool_)
    mask[:, 400:] = True
    sheet = draw_overlay(picture, [Drawn(mask=mask)])
    assert sheet.shape == (800, 800, 3)
    np.testing.assert_array_equal(sheet[:, :380], picture[:, :380])
    assert (sheet[:, 420:] != picture[:, 420:]).any(axis=2).all()


def test_an_object_has_one_tint_whatever_is_drawn_beside_it() -> None:
    picture = np.full((800, 800, 3), 90, dtype=np.uint8)
    left, right = (np.zeros((800, 800), dtype=np.bool_) for _ in range(2))
    left[:, :300], right[:, 500:] = True, True
    both = draw_overlay(picture, [Drawn(mask=left, number=1), Drawn(mask=right, number=2)])
    alone = draw_overlay(picture, [Drawn(mask=right, number=2)])
    np.testing.assert_array_equal(both[:, 450:], alone[:, 450:])
    plain = draw_overlay(picture, [Drawn(mask=left), Drawn(mask=right)])
    written = (both != plain).any(axis=2)
    assert 20 < written.sum() < 5000
    assert written[:, :300].any() and written[:, 500:].any()
    assert len({object_tint(number) for number in range(1, MAX_OBJECTS + 1)}) == MAX_OBJECTS


def test_an_object_that_is_not_seen_is_not_numbered() -> None:
    picture = np.full((800, 800, 3), 90, dtype=np.uint8)
    nowhere = np.zeros((10, 10), dtype=np.bool_)
    np.testing.assert_array_equal(draw_overlay(picture, [Drawn(mask=nowhere, number=1)]), picture)


def test_prompts_lie_where_they_are_on_the_larger_picture() -> None:
    picture = np.full((384, 384, 3), 90, dtype=np.uint8)
    nothing = np.zeros((10, 10), dtype=np.bool_)
    drawn = Drawn(mask=nothing, points=((100, 200, 1),), box=(50, 60, 350, 340))
    found = (draw_masks(picture, [drawn]) != 90).any(axis=2)
    assert found.shape == (768, 768)
    rows, columns = np.nonzero(found)
    assert abs(rows.min() - 120) < 5 and abs(rows.max() - 680) < 5
    assert abs(columns.min() - 100) < 5 and abs(columns.max() - 700) < 5
    assert found[395:405, 195:205].any()


def test_captions_wear_the_tints_of_their_masks() -> None:
    nothing = np.zeros((10, 10), dtype=np.bool_)
    captions = caption_masks([Drawn(mask=nothing, caption=text) for text in ("first", "", "third")])
    assert [one.text for one in captions] == ["first", "third"]
    assert [one.tint for one in captions] == [object_tint(1), object_tint(3)]
