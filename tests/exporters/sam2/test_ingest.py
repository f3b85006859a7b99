"""SAM 2's part of ingest: which model a checkpoint is of, and random networks that see objects."""

from functools import cache

import numpy as np
import pytest

from exporters.sam2 import ingest
from exporters.sam2.ingest import build_network, find_relative, mend_random
from exporters.sam2.model import read_config
from tests.exporters.shrunken import ARCHITECTURE, UPSTREAM

TINY = "configs/sam2.1/sam2.1_hiera_t.yaml"
READ_ONCE = cache(read_config)
PRESENCE = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"


def _shapes(width: int, depth: int, *, newer: bool) -> dict[str, tuple[int, ...]]:
    """Only the traits that are looked at."""
    trunk = "image_encoder.trunk."
    blocks = {f"{trunk}blocks.{block}.norm1.weight": (1,) for block in range(depth)}
    shapes = {f"{trunk}patch_embed.proj.weight": (width, 3, 7, 7), **blocks}
    return {**shapes, "no_obj_embed_spatial": (1, 64)} if newer else shapes


@pytest.mark.parametrize(
    ("width", "depth", "newer", "relative"),
    [
        (96, 12, False, "sam2_hiera_tiny"),
        (96, 16, True, "sam2.1_hiera_small"),
        (144, 48, True, "sam2.1_hiera_large"),
        (96, 12, True, None),
        (100, 12, True, None),
    ],
)
def test_a_relative_is_another_model_than_the_one_asked_for(
    width: int, depth: int, newer: bool, relative: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "read_config", READ_ONCE)
    assert find_relative(_shapes(width, depth, newer=newer), {"config": TINY}) == relative


def test_a_random_network_sees_objects() -> None:
    weights = {PRESENCE: np.zeros(1, np.float32), "other": np.zeros(1, np.float32)}
    mend_random(weights)
    assert (weights[PRESENCE].item(), weights["other"].item()) == (1, 0)


def test_the_presence_is_a_tensor_of_the_network() -> None:
    network = build_network({**ARCHITECTURE, "upstream": UPSTREAM})
    assert network.state_dict()[PRESENCE].shape == (1,)
