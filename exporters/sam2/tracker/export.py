"""The tracker contracts' part of `export`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from exporters.graphs.tracing import Graph
from exporters.sam2.model import load_model
from exporters.sam2.tracker.attention import PARTS
from exporters.sam2.tracker.memory_attention import (
    ExtendedMemoryAttention,
    StaticMemoryAttention,
    TrackerMemoryAttention,
)
from exporters.sam2.tracker.modules import (
    ExtendedMaskDecoder,
    ExtendedMemoryEncoder,
    ImageEncoder,
    TrackerMaskDecoder,
    TrackerMemoryEncoder,
    check_configuration,
)
from exporters.sam2.tracker.slots import FRAME_SLOTS, POINTER_SLOTS, is_static

# What the examples hold: objects, frames and pointers remembered, points. No two are equal, so
# that a trace cannot take one for another.
OBJECTS, FRAMES, POINTERS, POINTS = 2, 3, 4, 5


def build_graphs(params: Mapping[str, Any], weights: Path) -> dict[str, Graph]:
    """Return the four graphs of a tracker, with zeros as examples.

    Reads `config`, `overrides`, `attention`, `options.extended`, and of the extended contract
    `options.static`, of the other `options.double_sigmoid`.
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
    extended = bool(params["options"]["extended"])
    parts = PARTS[params["attention"]]
    encoder = ImageEncoder(sam, side, positions=not extended)
    graphs: dict[str, tuple[torch.nn.Module, tuple[torch.Tensor, ...]]]
    graphs = {"image_encoder": (encoder, (torch.zeros(1, 3, size, size),))}
    if extended:
        static = is_static(params)
        objects, frames, pointers = (
            (1, FRAME_SLOTS, POINTER_SLOTS) if static else (OBJECTS, FRAMES, POINTERS)
        )
        bank: tuple[torch.Tensor, ...] = (
            torch.zeros(objects, frames, memory, side, side),
            torch.zeros(objects, frames, dtype=torch.int64),
            torch.zeros(objects, pointers, width),
            torch.zeros(objects, pointers),
        )
        if static:
            bank += (torch.ones(objects, frames), torch.ones(objects, pointers))
        attention = StaticMemoryAttention if static else ExtendedMemoryAttention
        graphs |= {
            "mask_decoder": (
                ExtendedMaskDecoder(sam),
                (*prompts, features, *high_res, mask, torch.ones(OBJECTS)),
            ),
            "memory_attention": (attention(sam, side, parts=parts), (feature, *bank)),
            "memory_encoder": (
                ExtendedMemoryEncoder(sam),
                (mask[:objects], torch.ones(objects), feature, torch.zeros(objects, 1)),
            ),
        }
    else:
        double = bool(params["options"]["double_sigmoid"])
        tokens = FRAMES * side**2 + POINTERS * (width // memory)
        graphs |= {
            "mask_decoder": (TrackerMaskDecoder(sam), (*prompts, features, *high_res)),
            "memory_attention": (
                TrackerMemoryAttention(sam, side, parts=parts),
                (
                    feature,
                    torch.zeros(side**2, 1, width),
                    torch.zeros(OBJECTS, POINTERS, width),
                    torch.zeros(OBJECTS, FRAMES, memory, side, side),
                    torch.zeros(OBJECTS, tokens, memory),
                    torch.tensor(1.0),
                ),
            ),
            "memory_encoder": (
                TrackerMemoryEncoder(sam, side, double_sigmoid=double),
                (torch.zeros(OBJECTS, 1, size, size), feature, torch.zeros(OBJECTS, 1)),
            ),
        }
    return {
        name: Graph(module=module.eval(), examples=examples)
        for name, (module, examples) in graphs.items()
    }
