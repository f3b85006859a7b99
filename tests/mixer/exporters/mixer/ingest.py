"""The mixer's part of `ingest`."""

from collections.abc import Mapping
from typing import Any

import torch
from exporters.mixer.network import build

from exporters.upstream import check_upstream


def build_network(params: Mapping[str, Any]) -> torch.nn.Module:
    """The architecture whose tensors a checkpoint has to hold."""
    check_upstream(params["upstream"])
    return build(params)


def find_relative(shapes: Mapping[str, tuple[int, ...]], params: Mapping[str, Any]) -> str | None:
    """It has none."""
    del shapes, params
    return None
