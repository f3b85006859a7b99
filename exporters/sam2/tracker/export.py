"""The tracker contracts' part of `export`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from exporters.graphs.tracing import Graph
from exporters.sam2.model import load_model
from exporters.sam2.tracker.memory_attention import ExtendedMemoryAttention, TrackerMemoryAttention
from exporters.sam2.tracker.modules import (
    ExtendedMaskDecoder,
    ExtendedMemoryEncoder,
    ImageEncoder,
    TrackerMaskDecoder,
    TrackerMemoryEncoder,
    check_configuration,
)

# What the examples hold: objects, frames and pointers remembered, points. No two are equal, so
# that a trace cannot take one for another.
OBJECTS, FRAMES, POINTERS, POINTS = 2, 3, 4, 5


def build_graphs(params: Mapping[str, Any], weights: Path) -> dict[str, Graph]:
    """Return the four graphs of a tracker, with zeros as examples.

    Reads `config`, `overrides`, `options.extended`, and for the contract that is not extended
    `options.double_sigmoid`.
    """
    sam: Any = load_model(params["config"], params["overrides"], weights)
    check_configuration(sam)
    sam.image_encoder.trunk.single_picture = True
    size = int(sam.image_size)
    side = size // int(sam.backbone_stride)
    width, memory = int(sam.hidden_dim), int(sam.mem_dim)
    feature = torch.zeros(1, width, side, side)
    high_res = (
        torch.zeros(1, width // 8, 4 * side, 4 * side),
        torch.zeros(1, width // 4, 2 * side, 2 * side),
    )
    prompts = (torch.zeros(OBJECTS, POINTS, 2), torch.ones(OBJECTS, POINTS))
    features = feature.expand(OBJECTS, -1, -1, -1).contiguous()
    mask = torch.zeros(OBJECTS, 1, 4 * side, 4 * side)
    maps = torch.zeros(OBJECTS, FRAMES, memory, side, side)
    pointers = torch.zeros(OBJECTS, POINTERS, width)
    occ_logit = torch.zeros(OBJECTS, 1)
    extended = bool(params["options"]["extended"])
    encoder = ImageEncoder(sam, side, positions=not extended)
    graphs: dict[str, tuple[torch.nn.Module, tuple[torch.Tensor, ...]]]
    graphs = {"image_encoder": (encoder, (torch.zeros(1, 3, size, size),))}
    if extended:
        graphs |= {
            "mask_decoder": (
                ExtendedMaskDecoder(sam),
                (*prompts, features, *high_res, mask, torch.ones(OBJECTS)),
            ),
            "memory_attention": (
                ExtendedMemoryAttention(sam, side),
                (
                    feature,
                    maps,
                    torch.zeros(OBJECTS, FRAMES, dtype=torch.int64),
                    pointers,
                    torch.zeros(OBJECTS, POINTERS),
                ),
            ),
            "memory_encoder": (
                ExtendedMemoryEncoder(sam),
                (mask, torch.ones(OBJECTS), feature, occ_logit),
            ),
        }
    else:
        double = bool(params["options"]["double_sigmoid"])
        tokens = FRAMES * side**2 + POINTERS * (width // memory)
        graphs |= {
            "mask_decoder": (TrackerMaskDecoder(sam), (*prompts, features, *high_res)),
            "memory_attention": (
                TrackerMemoryAttention(sam, side),
                (
                    feature,
                    torch.zeros(side**2, 1, width),
                    pointers,
                    maps,
                    torch.zeros(OBJECTS, tokens, memory),
                    torch.tensor(1.0),
                ),
            ),
            "memory_encoder": (
                TrackerMemoryEncoder(sam, side, double_sigmoid=double),
                (torch.zeros(OBJECTS, 1, size, size), feature, occ_logit),
            ),
        }
    return {
        name: Graph(module=module.eval(), examples=examples)
        for name, (module, examples) in graphs.items()
    }
