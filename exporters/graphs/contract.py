"""Whether a graph is the one that its contract describes, judged from the file alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, ValueInfoProto

from exporters.graphs.external_data import find_data_faults
from exporters.graphs.structure import (
    all_graphs,
    compare_dims,
    count_ops,
    dims_of,
    dtype_of,
    infer_strictly,
    opsets_of,
    set_aside,
)
from exporters.protocol import StageError


def find_faults(
    model: ModelProto,
    golden: Mapping[str, Any],
    contract: Mapping[str, Any],
    opset: int,
    data: Path | None = None,
) -> list[str]:
    """Return what in a graph contradicts its contract, in words; empty when nothing does.

    Looks at names, order, types and dims of inputs and outputs, the opset, operator domains,
    forbidden operators, where the weights lie, ONNX's own checker, strict shape inference, and
    every declared intermediate shape. Weights are not read.

    Args:
        model: The graph, read without its data file.
        golden: The contract's graph.
        contract: The whole contract.
        opset: The opset that it should have.
        data: The data file, if the contract has one.
    """
    faults = [
        *_compare_values("input", model.graph.input, golden["inputs"]),
        *_compare_values("output", model.graph.output, golden["outputs"]),
    ]
    opsets = opsets_of(model)
    if opsets.get("") != opset:
        faults.append(f"its opset is {opsets.get('')}, not {opset}")
    domains = set(opsets) | {
        node.domain for inner in all_graphs(model.graph) for node in inner.node
    }
    strange = sorted(domain for domain in domains if domain not in contract["domains"])
    if strange:
        faults.append(f"it uses the operator domains {', '.join(strange)}")
    forbidden = {*contract["forbidden_ops"], *golden["forbidden_ops"]}
    found = {name: count for name, count in count_ops(model).items() if name in forbidden}
    if found:
        listed = ", ".join(f"{count} {name}" for name, count in found.items())
        faults.append(f"it has forbidden operators: {listed}")
    faults += find_data_faults(model, golden, data)
    return faults or _find_shape_faults(model, golden)


def _find_shape_faults(model: ModelProto, golden: Mapping[str, Any]) -> list[str]:
    structure, _ = set_aside(model)
    try:
        onnx.checker.check_model(structure, full_check=False)
        inferred = infer_strictly(structure)
    except onnx.checker.ValidationError as error:
        return [f"the checker of ONNX says: {' '.join(str(error).split())[:300]}"]
    except StageError as error:
        return [f"strict shape inference fails; {error.why}"]
    faults = []
    for output, wanted in zip(inferred.graph.output, golden["outputs"], strict=True):
        problem = compare_dims(dims_of(output), wanted["dims"])
        if problem:
            faults.append(f"of {output.name}, {problem}")
    shapes = {value.name: value for value in inferred.graph.value_info}
    wrong = [
        value.name
        for value in model.graph.value_info
        if value.name not in shapes or not _agree(value, shapes[value.name])
    ]
    if wrong:
        faults.append(f"{len(wrong)} declared intermediate shapes are wrong, first {wrong[0]}")
    return faults


def _agree(declared: ValueInfoProto, inferred: ValueInfoProto) -> bool:
    return dims_of(declared) == dims_of(inferred) and dtype_of(declared) == dtype_of(inferred)


def _compare_values(
    kind: str, found: Sequence[ValueInfoProto], golden: Sequence[Mapping[str, Any]]
) -> list[str]:
    names, wanted = [value.name for value in found], [value["name"] for value in golden]
    if names != wanted:
        return [f"its {kind}s are {', '.join(names)}, the contract's {', '.join(wanted)}"]
    faults = []
    for value, entry in zip(found, golden, strict=True):
        if dtype_of(value) != entry["dtype"]:
            faults.append(f"{kind} {value.name} is {dtype_of(value)}, not {entry['dtype']}")
        if dims_of(value) != list(entry["dims"]):
            faults.append(f"{kind} {value.name} is {dims_of(value)}, not {list(entry['dims'])}")
    return faults
