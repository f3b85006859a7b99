"""SqueezeNet's part of `export`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from exporters.squeezenet.network import load

from exporters.graphs.tracing import Graph


def build_graphs(params: Mapping[str, Any], weights: Path) -> dict[str, Graph]:
    """The classifier, with one picture as example."""
    side = params["side"]
    return {
        "classifier": Graph(module=load(params, weights), examples=(torch.zeros(1, 3, side, side),))
    }
