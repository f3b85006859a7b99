"""DINOv2's part of `ingest`: its architectures, and how to tell them apart."""

from collections.abc import Mapping
from typing import Any, Final

import torch

from exporters.dinov2.checkpoint import Checkpoint
from exporters.upstream import check_upstream

# Width and number of blocks, by the letter in a model's name.
_SIZES: Final = {"s": ((384,), 12), "b": ((768,), 12), "l": ((1024,), 24), "g": ((1536,), 40)}


def build_network(params: Mapping[str, Any]) -> torch.nn.Module:
    """Return the checkpoint of the architecture that `architecture` and `overrides` describe."""
    if "upstream" in params:
        check_upstream(params["upstream"])
    return Checkpoint(params)


def find_relative(shapes: Mapping[str, tuple[int, ...]], params: Mapping[str, Any]) -> str | None:
    """Return Meta's model whose traits a checkpoint has, if it is another than the one
    asked for.
    """
    blocks = {name.split(".")[1] for name in shapes if name.startswith("blocks.")}
    traits = (shapes.get("cls_token", ())[-1:], len(blocks))
    variant = "_reg4" if "register_tokens" in shapes else ""
    names = [f"dinov2_vit{size}14{variant}" for size, own in _SIZES.items() if own == traits]
    return names[0] if names and names[0] != params["model"] else None
