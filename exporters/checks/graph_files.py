"""The files of the graphs under check, held against their contract."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters.checks.verdict import not_verified
from exporters.graphs.contract import find_faults
from exporters.graphs.external_data import files_of, total_bytes
from exporters.graphs.structure import count_ops, read_graph
from exporters.protocol import Step, as_sentence, report_progress


@dataclass(frozen=True, kw_only=True)
class GraphFiles:
    """A graph's files, and what they hold.

    Attributes:
        path: The .onnx file.
        files: It and its data file.
        figures: Nodes, operators and bytes.
    """

    path: Path
    files: tuple[Path, ...]
    figures: Mapping[str, Any]


def read_graphs(
    step: Step, contract: Mapping[str, Any], untouched: Collection[str] = ()
) -> dict[str, GraphFiles]:
    """Compare every graph with its contract.

    Args:
        step: Its inputs are the graphs' files; its parameter `opset` is theirs.
        contract: The whole golden contract.
        untouched: Graphs that were compared already, with the onnx that wrote them.

    Raises:
        StageError: One contradicts it (exit code 6).
    """
    report_progress(0.0, "comparing the graphs with their contract")
    found: dict[str, GraphFiles] = {}
    for golden in contract["graphs"]:
        path, *data = files = [step.input(name) for name in files_of(golden)]
        model = read_graph(path)
        # Another onnx may infer other names for dims than that which wrote them.
        if golden["name"] not in untouched and (
            faults := find_faults(model, golden, contract, int(step.param("opset")), *data)
        ):
            raise not_verified(
                f"The graph {golden['name']} is not the contract {contract['name']}'s.",
                as_sentence("; ".join(faults)),
            )
        figures = {
            "nodes": len(model.graph.node),
            "ops": count_ops(model),
            "bytes": total_bytes(files),
        }
        found[golden["name"]] = GraphFiles(path=path, files=tuple(files), figures=figures)
        del model
    return found
