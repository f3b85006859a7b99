"""A family's part of `export` with faults in it, which `verify` must find."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from exporters.graphs.tracing import Graph
from exporters.sam2.image import export
from tests.exporters.shrunken import shrink


def build_graphs(params: Mapping[str, Any], weights: Path) -> dict[str, Graph]:
    """The real graphs with the fault that `mutation` names."""
    # Of all graphs, though only some are traced: the encoder's input decides about the others.
    graphs = export.build_graphs({**params, "graphs": shrink("image")["graphs"]}, weights)
    sam: Any = graphs["encoder"].module.sam
    blocks = sam.image_encoder.trunk.blocks
    layers = sam.sam_mask_decoder.transformer.layers
    match params["mutation"]:
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
    return graphs
