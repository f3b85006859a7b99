"""torchvision's SqueezeNet 1.1."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch


def build(params: Mapping[str, Any]) -> torch.nn.Module:
    """The architecture for `classes` classes, in eval mode."""
    from torchvision.models import squeezenet1_1

    network: torch.nn.Module = squeezenet1_1(num_classes=params["classes"])
    return network.eval()


def load(params: Mapping[str, Any], weights: Path) -> torch.nn.Module:
    """`build`, with the values that ingest wrote."""
    network = build(params)
    network.load_state_dict(safetensors.torch.load_file(weights), strict=True)
    return network.requires_grad_(False)
