"""The feature contracts' part of `export`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from exporters.dinov2.features.modules import MOST_IN_TURN, Features
from exporters.dinov2.model import load_model, read_size
from exporters.dinov2.position import resample
from exporters.graphs.tracing import Graph


def build_graphs(params: Mapping[str, Any], weights: Path) -> dict[str, Graph]:
    """Return the network for pictures of one size, with one picture as its example.

    Reads `architecture`, `overrides`, `native`, `patch`, `registers`, `size`, `attention`, and from
    `graphs` which tokens the contract asks for.
    """
    vit: Any = load_model(params, weights)
    height, width = read_size(params["size"])
    patch = int(params["patch"])
    grid = vit.pos_embed[0, -int(vit.patch_embed.num_patches) :]
    positions = resample(
        grid.numpy(), height // patch, width // patch, registers=bool(params["registers"])
    )
    (golden,) = params["graphs"]
    features = Features(
        vit,
        torch.from_numpy(positions),
        [value["name"] for value in golden["outputs"]],
        most_in_turn=MOST_IN_TURN[params["attention"]],
    )
    return {"features": Graph(module=features.eval(), examples=(torch.zeros(1, 3, height, width),))}
