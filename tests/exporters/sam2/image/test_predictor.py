"""Prompts as the decoder takes them."""

import numpy as np

from exporters.media.prompts import PromptSet
from exporters.sam2.image.predictor import mask_logits, prompt_tensors

SIZE, MASK = 64, 16


WIDTH, HEIGHT = 120, 60


def test_prompt_sets_of_different_lengths_are_padded() -> None:
    sets = [
        PromptSet(points=((30, 15, 1),), box=(0, 0, 60, 30)),
        PromptSet(points=((60, 30, 0),)),
        PromptSet(mask=np.ones((HEIGHT, WIDTH), dtype=np.bool_)),
    ]
    tensors = prompt_tensors(sets, HEIGHT, WIDTH, SIZE, (MASK, MASK))
    np.testing.assert_array_equal(tensors["point_labels"], [[2, 3, 1], [0, -1, -1], [-1, -1, -1]])
    np.testing.assert_array_equal(tensors["point_coords"][0], [[0, 0], [32, 32], [16, 16]])
    np.testing.assert_array_equal(tensors["point_coords"][1], [[32, 32], [0, 0], [0, 0]])
    np.testing.assert_array_equal(tensors["has_mask_input"], [0, 0, 1])
    assert tensors["mask_input"].shape == (3, 1, MASK, MASK)
    assert all(value.dtype == np.float32 for value in tensors.values())


def test_a_mask_becomes_logits_from_minus_ten_to_ten() -> None:
    mask = np.zeros((64, 32), dtype=np.bool_)
    mask[:, 16:] = True
    logits = mask_logits(mask, 16, 16)
    assert logits.shape == (16, 16)
    assert logits[0, 0] == -10
    assert logits[0, -1] == 10
    assert -10 < logits[:, 7:9].mean() < 10
