"""The tracker's part of `export` with faults in it, which `verify` must find."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from exporters.graphs.tracing import Graph
from exporters.sam2.tracker import export


def build_graphs(params: Mapping[str, Any], weights: Path) -> dict[str, Graph]:
    """The real graphs with the fault that `mutation` names."""
    graphs = export.build_graphs(params, weights)
    mutate({name: graph.module for name, graph in graphs.items()}, params["mutation"])
    return graphs


def mutate(modules: Mapping[str, Any], mutation: str) -> None:
    """Puts one fault into the modules of an extended or a classic tracker."""
    attention, memory = modules["memory_attention"], modules["memory_encoder"]
    layers = attention.attention.layers
    match mutation:
        case "swap two attention layers":
            layers[1], layers[2] = layers[2], layers[1]
        case "no rotation":
            attention.attention.sines.rows.zero_()
            attention.attention.sines.columns.zero_()
        case "rotation by the other axis":
            for table in (attention.attention.cosines, attention.attention.sines):
                table.first = "rows"
        case "no places":
            for table in _places(attention, memory):
                table.rows.zero_()
                table.columns.zero_()
        case "transposed places":
            for table in _places(attention, memory):
                table.first = "columns"
        case "no temporal code of one row":
            codes = attention.codes if hasattr(attention, "codes") else memory.codes
            codes[2] = 0
        case "another divisor of pointers":
            attention.times.periods.mul_(16 / 15)
        case "no time of pointers":
            project = attention.times.project
            attention.times.project = None if project is None else _Zero(project)
        case "no occlusion embedding":
            memory.hidden.data.zero_()
        case "occlusion embedding of the other sign":
            memory.hidden.data.neg_()
        case "swap two fuser layers":
            fuser = memory.encoder.fuser.layers
            fuser[0], fuser[1] = fuser[1], fuser[0]
        case "any mask is stable":
            modules["mask_decoder"].decoder.dynamic_multimask_stability_thresh = -1.0
        case "another pointer of the unseen":
            modules["mask_decoder"].no_pointer.data.mul_(0.5)
        case "no embedding of missing memory":
            modules["image_encoder"].sam.no_mem_embed.data.zero_()
        case "empty slots have weight":
            condition = attention.condition
            attention.condition = lambda *given: condition(*given[:-1], 0 * given[-1])
        case "another embedding of missing memory":
            attention.no_memory.data.mul_(0.5)
        case unknown:
            raise ValueError(unknown)


def _places(attention: Any, memory: Any) -> list[Any]:
    """The tables of places of memories: the caller of a classic one gets them from the encoder."""
    return [attention.places] if hasattr(attention, "places") else [memory.positions]


class _Zero(torch.nn.Module):
    def __init__(self, project: torch.nn.Module) -> None:
        super().__init__()
        self.project = project

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.project(value) * 0
        return result
