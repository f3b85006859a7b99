"""DINOv2's architectures as Meta's checkpoints name them."""

from collections.abc import Mapping
from typing import Any

import torch

from exporters.dinov2.model import build_model


class Checkpoint(torch.nn.Module):
    """The tensors of a checkpoint, by Meta's names and in Meta's shapes, without values.

    It holds timm's own modules, so that the role of each tensor can be told from its owner. What
    differs from timm's network: the class token has a place in the position table of every model,
    the two layers of a SwiGLU are called `w12` and `w3`, and there is a mask token, which only
    training uses.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__()
        network: Any = build_model(params)
        width, patches = int(network.embed_dim), int(network.patch_embed.num_patches)
        registers = int(network.num_reg_tokens)
        self.cls_token = _empty(1, 1, width)
        self.pos_embed = _empty(1, 1 + patches, width)
        self.mask_token = _empty(1, width)
        if registers:
            self.register_tokens = _empty(1, registers, width)
        self.patch_embed = network.patch_embed
        self.blocks = network.blocks
        self.norm = network.norm
        for block in self.blocks:
            if _is_gated(block.mlp):
                block.mlp = torch.nn.ModuleDict({"w12": block.mlp.fc1, "w3": block.mlp.fc2})


def _empty(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.empty(shape, device="meta"))


def _is_gated(mlp: torch.nn.Module) -> bool:
    from timm.layers.mlp import GluMlp

    return isinstance(mlp, GluMlp)
