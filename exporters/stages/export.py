"""The stage `export`: the family's modules, on patched upstream, become traced ONNX graphs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

from exporters.graphs.external_data import collect, files_of, total_bytes
from exporters.graphs.symbolics import register_symbolics
from exporters.graphs.tracing import check_examples, trace
from exporters.memory import return_freed_memory
from exporters.protocol import Result, Step, report_progress
from exporters.upstream import use_patched

_PATCHES: Final = "patches/"


def run(step: Step) -> Result:
    """Trace every graph of the contract; write its ONNX file, and its data file if it has one.

    Parameters: `upstream`, `opset`, and `graphs`, the contract's graphs; the rest goes to the
    family's part, whose `build_graphs(params, weights)` returns a `Graph` by name.

    Raises:
        StageError: A patch does not apply, the module's values and the contract's differ, or a
            graph is too large for one file and its contract has no other.
    """
    patches = {
        name.removeprefix(_PATCHES): path
        for name, path in step.inputs.items()
        if name.startswith(_PATCHES)
    }
    torch.set_num_threads(step.threads)
    return_freed_memory()
    report_progress(0.0, "applying the patches")
    applied = use_patched(step.param("upstream"), patches, step.out.parent / "upstream")
    report_progress(0.1, "building the model")
    graphs = step.provider().build_graphs(step.params, step.input("weights.safetensors"))
    register_symbolics()
    contract: Sequence[Mapping[str, Any]] = step.param("graphs")
    for index, golden in enumerate(contract):
        report_progress(0.3 + 0.7 * index / len(contract), f"tracing {golden['name']}")
        graph = graphs[golden["name"]]
        check_examples(golden, graph.examples)
        traced = step.out.parent / f"trace-{index}" / "graph.onnx"
        traced.parent.mkdir()
        trace(graph, golden, int(step.param("opset")), traced)
        collect(traced, golden, step.out)
    return Result(
        outputs=[name for golden in contract for name in files_of(golden)],
        metrics={
            "patches": list(applied),
            "bytes": {
                golden["name"]: total_bytes(step.out / name for name in files_of(golden))
                for golden in contract
            },
        },
    )
