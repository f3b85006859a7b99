"""How the reference calls upstream's predictor, and the pictures that it makes up."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from exporters.sam2.image.prompts import Prompts
from exporters.sam2.image.reference import _generator, _plain_pictures, _predict

SIZE = 32


class Predictor:
    """Tells calls apart by their scores."""

    model = SimpleNamespace(sam_image_embedding_size=2)

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def predict(self, **given: Any) -> tuple[Any, Any, Any]:
        self.calls.append(given)
        sets = len(given["point_coords"])
        inside = np.zeros((sets, 3, SIZE, SIZE), bool)
        inside[..., :8] = True
        scores = np.full((sets, 3), len(self.calls), np.float32)
        masks = np.zeros((sets, 3, 8, 8), np.float32)
        # Upstream drops the axis of a single set.
        return (inside[0], scores[0], masks[0]) if sets == 1 else (inside, scores, masks)


def _prompts(*masks: bool) -> Prompts:
    sets = len(masks)
    points, labels = np.ones((sets, 1, 2), np.float32), np.ones((sets, 1), np.float32)
    return Prompts(name="some", points=points, labels=labels, masks=masks)


HINT = np.arange(3, dtype=np.float32)[:, None, None] + np.ones((3, 8, 8), np.float32)


def test_sets_that_agree_are_served_together() -> None:
    predictor = Predictor()
    found = _predict(predictor, _prompts(True, True), HINT)
    (call,) = predictor.calls
    assert call["mask_input"][:, 0, 0, 0].tolist() == [1, 2]
    assert call["multimask_output"] is True
    assert found["has_mask_input"].tolist() == [1, 1]
    assert found["masks"].shape == (2, 3, 8, 8)


def test_where_only_some_bring_a_mask_each_set_is_a_call() -> None:
    predictor = Predictor()
    found = _predict(predictor, _prompts(False, True, False), HINT)
    assert [call["mask_input"] is not None for call in predictor.calls] == [False, True, False]
    assert found["iou_predictions"][:, 0].tolist() == [1, 2, 3]
    assert found["mask_input"][:, 0, 0, 0].tolist() == [0, 2, 0]
    assert found["masks"].shape == (3, 3, 8, 8)


def test_masks_are_kept_with_eight_pixels_a_byte() -> None:
    found = _predict(Predictor(), _prompts(False), None)["inside"]
    assert found.shape == (1, 3, SIZE, SIZE // 8)
    assert found[0, 0, 0].tolist() == [255, 0, 0, 0]


def test_made_up_pictures_are_those_of_the_seed() -> None:
    pictures = _plain_pictures(SIZE, 0)
    assert (pictures["black"].max(), pictures["white"].min()) == (0, 255)
    assert (pictures["noise"] == _plain_pictures(SIZE, 0)["noise"]).all()
    assert (pictures["noise"] != _plain_pictures(SIZE, 1)["noise"]).any()


def test_each_picture_has_numbers_of_its_own() -> None:
    drawn = [_generator(*one).random() for one in ((0, "a"), (0, "b"), (1, "a"), (0, "a"))]
    assert len(set(drawn)) == 3 and drawn[0] == drawn[3]
