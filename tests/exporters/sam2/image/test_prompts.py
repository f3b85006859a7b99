"""The prompts of references and checks: one of every kind, and all of them in the picture."""

import numpy as np

from exporters.sam2.image.prompts import Prompts, make_prompts

SIZE = 128


def _make(seed: int = 0) -> tuple[Prompts, ...]:
    return make_prompts(SIZE, np.random.default_rng(seed))


def test_there_is_one_of_every_kind() -> None:
    made = {one.name: one for one in _make()}
    assert len(made) == len(_make())
    assert {one.sets for one in made.values()} == {1, 2, 3}
    assert any(one.points is None for one in made.values())
    assert any(one.boxes is not None and one.points is not None for one in made.values())
    labels = {int(x) for one in made.values() if one.labels is not None for x in one.labels.flat}
    assert labels == {-1, 0, 1}
    # Masks for all sets of a call, for none, and for some.
    assert {frozenset(one.masks) for one in made.values()} == {
        frozenset({True}),
        frozenset({False}),
        frozenset({True, False}),
    }


def test_they_lie_in_the_picture() -> None:
    for one in _make():
        coords, labels = one.decoder_points()
        assert coords.dtype == labels.dtype == np.float32
        assert coords.shape == (*labels.shape, 2)
        assert coords.min() > 0 and coords.max() < SIZE
        if one.boxes is not None:
            assert (one.boxes[:, :2] + 0.1 * SIZE < one.boxes[:, 2:]).all()


def test_corners_of_a_box_come_first() -> None:
    (both,) = (one for one in _make() if one.name == "a box and points")
    assert both.boxes is not None and both.points is not None
    coords, labels = both.decoder_points()
    assert labels.tolist() == [[2, 3, 1, 0]]
    assert coords[0, :2].ravel().tolist() == both.boxes[0].tolist()
    assert coords[0, 2:].tolist() == both.points[0].tolist()


def test_the_generator_decides() -> None:
    first, again, other = (one[0].points for one in (_make(), _make(), _make(1)))
    assert first is not None and again is not None and other is not None
    assert (first == again).all() and not (first == other).any()
