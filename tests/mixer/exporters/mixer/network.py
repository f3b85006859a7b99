"""Two perceptrons on the patches of a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch


class Mixer(torch.nn.Module):
    """float32 [1, 3, 64, 64] to tokens, float32 [1, 64, width]."""

    def __init__(self, width: int) -> None:
        from torchvision.ops import MLP

        super().__init__()
        self.patches = torch.nn.Conv2d(3, width, 8, 8)
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(width) for _ in range(2))
        self.layers = torch.nn.ModuleList(
            MLP(width, [4 * width, width], activation_layer=torch.nn.ReLU, inplace=False)
            for _ in range(2)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            tokens = tokens + layer(norm(tokens))
        return tokens


def build(params: Mapping[str, Any]) -> torch.nn.Module:
    """The architecture, in eval mode."""
    return Mixer(params["width"]).eval()


def load(params: Mapping[str, Any], weights: Path) -> torch.nn.Module:
    """`build`, with the values that ingest wrote."""
    network = build(params)
    network.load_state_dict(safetensors.torch.load_file(weights), strict=True)
    return network.requires_grad_(False)
