"""The order in which the two modules call upstream's parts, told with parts that can be told."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from exporters.sam2.image import modules
from exporters.sam2.image.modules import ImageEncoder, MaskDecoder


@pytest.mark.parametrize("added", [True, False])
def test_a_still_picture_has_the_embedding_for_no_memory(added: bool) -> None:
    features = [torch.full((1, count, 2, 2), float(count)) for count in (1, 2, 3)]
    sam = SimpleNamespace(
        forward_image=lambda _: {"backbone_fpn": features},
        directly_add_no_mem_embed=added,
        no_mem_embed=torch.arange(3.0).reshape(1, 1, 3),
    )
    fine, middle, coarse = ImageEncoder(sam)(torch.zeros(1, 3, 8, 8))
    assert fine is features[0] and middle is features[1]
    assert coarse[0, :, 0, 0].tolist() == ([3, 4, 5] if added else [3, 3, 3])


class Prompts:
    """Stands for the encoder of prompts: says what was called."""

    def __init__(self, sam: Any) -> None:
        """Takes upstream, and has no need of it."""

    positions = staticmethod(lambda: "positions")
    points = staticmethod(lambda coords, labels: ("points", coords, labels))
    masks = staticmethod(lambda *mask: ("masks", *mask))
    no_mask = staticmethod(lambda: "no mask")


@pytest.mark.parametrize("mask_prompt", [True, False])
def test_the_decoder_gives_the_three_masks_within_bounds(
    mask_prompt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules, "PromptEncoder", Prompts)
    given: dict[str, Any] = {}

    def predict(**arguments: Any) -> tuple[Any, Any, None, None]:
        given.update(arguments)
        masks = torch.tensor([-90.0, 3.0, 90.0]).reshape(1, 3, 1, 1)
        return masks, torch.arange(4.0)[None], None, None

    sam = SimpleNamespace(sam_mask_decoder=SimpleNamespace(predict_masks=predict))
    decoder = MaskDecoder(sam, mask_prompt=mask_prompt)
    mask = ("logits", "has one") if mask_prompt else ()
    masks, scores = decoder("embedded", "fine", "middle", "coords", "labels", *mask)
    assert masks.flatten().tolist() == [-32, 3, 32]
    assert scores.tolist() == [[1, 2, 3]]
    assert given["first_mask"] == 1
    assert given["high_res_features"] == ["fine", "middle"]
    assert given["sparse_prompt_embeddings"] == ("points", "coords", "labels")
    dense = ("masks", "logits", "has one") if mask_prompt else "no mask"
    assert given["dense_prompt_embeddings"] == dense
