"""Tracing: a module and its example inputs become an ONNX file."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exporters.protocol import StageError


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One graph to trace: a module in eval mode, and example inputs in the contract's order."""

    module: torch.nn.Module
    examples: tuple[torch.Tensor, ...]


def trace(graph: Graph, golden: Mapping[str, Any], opset: int, path: Path) -> None:
    """Trace a module with TorchScript and write it as ONNX.

    The trace follows one run on the examples; axes that the contract names are dynamic. Weights of
    more than 2 GB become files of their own, beside the graph.
    """
    graph.module.eval()
    _require_eval(graph.module, "before")
    with torch.no_grad(), warnings.catch_warnings():
        # The sizes that become constants are constants of the contract; verify proves the rest.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.module,
            graph.examples,
            os.fspath(path),
            dynamo=False,
            opset_version=opset,
            input_names=[value["name"] for value in golden["inputs"]],
            output_names=[value["name"] for value in golden["outputs"]],
            dynamic_axes=_dynamic_axes(golden),
            do_constant_folding=True,
        )
    _require_eval(graph.module, "after")


def check_examples(golden: Mapping[str, Any], examples: Sequence[torch.Tensor]) -> None:
    """Compare the number, sizes and types of example inputs with the contract.

    Raises:
        StageError: The contract was made for a model of another size.
    """
    if len(examples) != len(golden["inputs"]):
        raise _misfit(golden, f"it has {len(golden['inputs'])} inputs, not {len(examples)}")
    for value, example in zip(golden["inputs"], examples, strict=True):
        dims, found = value["dims"], list(example.shape)
        fits = len(dims) == len(found) and all(
            isinstance(wanted, str) or wanted == size
            for wanted, size in zip(dims, found, strict=True)
        )
        if not fits or str(example.dtype) != f"torch.{value['dtype']}":
            raise _misfit(golden, f"{value['name']} is {value['dtype']} {dims}, not {found}")


def _dynamic_axes(golden: Mapping[str, Any]) -> dict[str, dict[int, str]]:
    axes = {
        value["name"]: {axis: dim for axis, dim in enumerate(value["dims"]) if isinstance(dim, str)}
        for value in [*golden["inputs"], *golden["outputs"]]
    }
    return {name: named for name, named in axes.items() if named}


def _require_eval(module: torch.nn.Module, when: str) -> None:
    training = [name or "itself" for name, part in module.named_modules() if part.training]
    if training:
        raise AssertionError(f"{when} the trace, in training mode: {', '.join(training[:4])}")


def _misfit(golden: Mapping[str, Any], fault: str) -> StageError:
    return StageError(
        f"The graph {golden['name']} does not fit its contract.",
        f"In the contract {fault}.",
        "Build the contract with a model of its picture size.",
    )
