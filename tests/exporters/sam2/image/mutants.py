"""The still-image modules with faults in them, which `verify` must find."""

from collections.abc import Mapping
from typing import Any

import torch


def mutate(modules: Mapping[str, Any], mutation: str) -> None:
    """Puts one fault into encoder and decoder."""
    sam = modules["encoder"].sam
    blocks = sam.image_encoder.trunk.blocks
    layers = modules["decoder"].decoder.transformer.layers
    match mutation:
        case "drop a block":
            blocks[4] = torch.nn.Identity()
        case "swap two blocks":
            blocks[4], blocks[5] = blocks[5], blocks[4]
        case "swap two decoder layers":
            layers[0], layers[1] = layers[1], layers[0]
        case "forget the padding point":
            sam.sam_prompt_encoder.not_a_point_embed.weight.data *= 0.999
        case unknown:
            raise ValueError(unknown)
