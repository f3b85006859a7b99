"""The still-image contracts' part of `export`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from exporters.graphs.tracing import Graph
from exporters.sam2.image.modules import ImageEncoder, MaskDecoder
from exporters.sam2.model import load_model


def build_graphs(params: Mapping[str, Any], weights: Path) -> dict[str, Graph]:
    """Return encoder and decoder, with examples: one picture; one prompt set of five points.

    Reads `config`, `overrides`, `options.mask_prompt`, and from `graphs` whether the encoder takes
    one picture or a batch.
    """
    sam: Any = load_model(params["config"], params["overrides"], weights)
    (batch,) = (
        value["dims"][0]
        for graph in params["graphs"]
        for value in graph["inputs"]
        if value["name"] == "image"
    )
    sam.image_encoder.trunk.single_picture = batch == 1
    mask_prompt = bool(params["options"]["mask_prompt"])
    size = int(sam.image_size)
    side = size // int(sam.backbone_stride)
    channels = int(sam.hidden_dim)
    features = (
        torch.zeros(1, channels, side, side),
        torch.zeros(1, channels // 8, 4 * side, 4 * side),
        torch.zeros(1, channels // 4, 2 * side, 2 * side),
    )
    prompts = (torch.zeros(1, 5, 2), torch.ones(1, 5))
    mask = (torch.zeros(1, 1, 4 * side, 4 * side), torch.ones(1)) if mask_prompt else ()
    return {
        "encoder": Graph(
            module=ImageEncoder(sam).eval(), examples=(torch.zeros(1, 3, size, size),)
        ),
        "decoder": Graph(
            module=MaskDecoder(sam, mask_prompt=mask_prompt).eval(),
            examples=(*features, *prompts, *mask),
        ),
    }
