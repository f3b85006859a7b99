"""The stage `convert`: traced graphs become the contract's files.

The weights are set aside while a tool simplifies the structure, so that it works on kilobytes and
cannot fold anything that depends on them (a position table enlarged to the picture's size would
add 25 to 38 MB). Then they are put back, shapes are inferred anew, and the contract's are declared.
Weights that lie beside their graph go from file to file, past all of this.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import ModelProto

from exporters.graphs.external_data import files_of, total_bytes, write_files
from exporters.graphs.simplify import Simplifier, simplify_apart
from exporters.graphs.structure import (
    declare_outputs,
    describe,
    drop_unused,
    infer_strictly,
    lift_constants,
    opsets_of,
    read_graph,
    rejoin,
    set_aside,
    set_metadata,
)
from exporters.protocol import Result, StageError, Step, report_progress


def run(step: Step) -> Result:
    """Simplify, clean and label every graph; the files keep their names.

    Parameters: `simplifier`, `opset`, `graphs` (the contract's), `metadata` (name to text).

    Raises:
        StageError: The simplifier failed, strict shape inference failed, the dims are not the
            contract's, or the graph is of another opset.
    """
    contract: Sequence[Mapping[str, Any]] = step.param("graphs")
    metrics: dict[str, Any] = {}
    for index, golden in enumerate(contract):
        report_progress(index / len(contract), f"converting {golden['name']}")
        path, *_ = [step.input(name) for name in files_of(golden)]
        model = read_graph(path)
        opset = opsets_of(model).get("")
        if opset != step.param("opset"):
            raise StageError(
                f"The traced graph {golden['name']} has opset {opset}, not {step.param('opset')}.",
                "The export step was made for another opset.",
                "Report this as a fault of the plan.",
            )
        finished = convert_graph(model, golden, step)
        write_files(finished, golden, step.out, path.parent)
        size = total_bytes(step.out / name for name in files_of(golden))
        metrics[golden["name"]] = describe(finished, size)
    return Result(
        outputs=[name for golden in contract for name in files_of(golden)],
        metrics={"simplifier": step.param("simplifier"), "graphs": metrics},
    )


def convert_graph(model: ModelProto, golden: Mapping[str, Any], step: Step) -> ModelProto:
    """Convert one graph, from trace to file."""
    lift_constants(model)
    structure, weights = set_aside(model)
    structure.graph.name = golden["name"]
    drop_unused(structure)
    tool = Simplifier(step.param("simplifier"))
    structure = simplify_apart(tool, structure, step.out.parent, step.step)
    structure.graph.name = golden["name"]
    structure = infer_strictly(structure)
    declare_outputs(structure, golden)
    set_metadata(structure, step.param("metadata"))
    rejoin(structure, weights)
    return structure
