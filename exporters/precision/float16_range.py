"""Which values of a graph are too large for float16, and which nodes therefore stay in float32.

float16 ends at 65504: what is larger becomes infinite, and NaN soon after. How large the values of
a graph are is what calibration pictures show, in float32; what only moves values about, or cannot
pass 1, need not be looked at.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from exporters.graphs.structure import infer_strictly, set_aside

# IEEE 754 binary16.
LARGEST: Final = 65504.0
# Other pictures may reach twice as far as those that were looked at.
CLOSE: Final = LARGEST / 2

# Their outputs hold values of their inputs, or zeros.
MOVING: Final = frozenset(
    {
        "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
        "Identity", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose",
        "Unsqueeze",
    }
)  # fmt: skip
BOUNDED: Final = frozenset({"Cos", "Erf", "Sigmoid", "Sign", "Sin", "Softmax", "Tanh"})

_STEPS: Final[Mapping[int, float]] = {
    TensorProto.INT8: 128.0,
    TensorProto.UINT8: 255.0,
    TensorProto.FLOAT8E4M3FN: 448.0,
}


def find_observed(model: ModelProto) -> list[str]:
    """Return the float32 values of a graph whose magnitudes have to be observed, in its order.

    Raises:
        StageError: Strict shape inference fails.
    """
    structure, weights = set_aside(model)
    graph = infer_strictly(structure).graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    constants = {tensor.name for tensor in graph.initializer} | weights.keys()
    names = [value.name for value in graph.input if value.name not in constants]
    for node in graph.node:
        if node.op_type not in MOVING | BOUNDED:
            names.extend(node.output)
    return [name for name in names if types.get(name) == TensorProto.FLOAT]


def bound_values(model: ModelProto, observed: Mapping[str, float]) -> dict[str, float]:
    """Return a bound of the magnitude of every floating-point value that has one.

    Args:
        model: The graph with its weights in it; Q and DQ may have been added since `observed`.
        observed: The largest magnitudes that pictures led to.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    bounds = {
        name: _magnitude(tensor)
        for name, tensor in constants.items()
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
    }
    bounds.update(observed)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] not in observed:
            bounds[node.output[0]] = _bound_of_integers(node, constants)
        elif node.op_type in MOVING:
            known = [bounds[name] for name in node.input if name in bounds]
            bounds |= dict.fromkeys(node.output, max(known)) if known else {}
    return bounds


def find_overflowing(model: ModelProto, bounds: Mapping[str, float]) -> set[str]:
    """Return the nodes that read or write what float16 cannot hold, by their first outputs.

    A node in float32 whose input is dequantized takes the Q and DQ before it along, so that
    runtimes still see the three as one.
    """
    writers = {name: node for node in model.graph.node for name in node.output}
    kept: dict[str, NodeProto] = {}
    waiting = [
        node
        for node in model.graph.node
        if any(bounds.get(name, 0.0) > LARGEST for name in (*node.input, *node.output))
    ]
    while waiting:
        node = waiting.pop()
        if node.output[0] not in kept:
            kept[node.output[0]] = node
            waiting += [
                writers[name]
                for name in node.input
                if name in writers
                and writers[name].op_type in ("QuantizeLinear", "DequantizeLinear")
            ]
    return set(kept)


def describe_range(
    model: ModelProto,
    observed: Collection[str],
    bounds: Mapping[str, float],
    kept: Collection[str],
    always: Collection[str],
) -> dict[str, Any]:
    """Return what a report says of a graph's range.

    Args:
        model: The graph, before it becomes float16.
        observed: The values that were looked at.
        bounds: Their magnitudes and those of constants; of an infinite one, None is told.
        kept: The nodes that stay in float32 because of them, by their first outputs.
        always: The operators that stay in float32 anyway.
    """
    stays = {
        node.output[0]
        for node in model.graph.node
        if node.output[0] in kept or node.op_type in always
    }
    halves: set[str] = set()
    for node in model.graph.node:
        if node.output[0] not in stays:
            halves.update(node.input, node.output)
    named = {*observed, *(tensor.name for tensor in model.graph.initializer)}
    close = sorted(
        (name for name in named if bounds.get(name, 0.0) > CLOSE),
        key=lambda name: (-bounds[name], name),
    )
    top = max(observed, key=lambda name: (bounds[name], name), default="")
    return {
        "limit": LARGEST,
        "observed": len(observed),
        "largest": _row(top, bounds) if top else None,
        "close": [{**_row(name, bounds), "float16": name in halves} for name in close],
        "kept": sorted(
            (
                {"node": node.output[0], "name": node.name, "op": node.op_type}
                for node in model.graph.node
                if node.output[0] in kept and node.op_type not in always
            ),
            key=lambda one: one["node"],
        ),
    }


def _row(name: str, bounds: Mapping[str, float]) -> dict[str, Any]:
    value = bounds[name]
    return {"tensor": name, "largest": value if np.isfinite(value) else None}


def _magnitude(tensor: TensorProto) -> float:
    values = numpy_helper.to_array(tensor)
    return float(np.abs(values).max()) if values.size else 0.0


def _bound_of_integers(node: NodeProto, constants: Mapping[str, TensorProto]) -> float:
    """Return the magnitude that a DequantizeLinear can reach; 0 where that is not known."""
    source, scale = constants.get(node.input[0]), constants.get(node.input[1])
    if scale is None:
        return 0.0
    if source is not None:
        steps = float(np.abs(numpy_helper.to_array(source).astype(np.float32)).max())
    else:
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        steps = _STEPS.get(zero.data_type, 0.0) if zero is not None else 0.0
    return steps * _magnitude(scale)
