"""ONNX graphs as data: what may be read from one, and edits that change no value."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.shape_inference import InferenceError, infer_shapes

from exporters.protocol import StageError, as_sentence

# Smaller constants (scales, axes, shapes) are part of a graph's structure.
WEIGHT_ELEMENTS: Final = 64

Dims = list[int | str | None]

TYPE_NAMES: Final[Mapping[int, str]] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.BOOL: "bool",
}


def read_graph(path: Path) -> ModelProto:
    """Read an ONNX file.

    Raises:
        StageError: It is not an ONNX model.
    """
    try:
        return onnx.load_model(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError has no public base
        raise StageError(
            f"{path.name} is not an ONNX model.",
            f"Reading it failed with {type(error).__name__}: {error}",
            "Build it again.",
        ) from error


def write_graph(model: ModelProto, path: Path) -> None:
    """Write an ONNX file; equal models become equal bytes."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def dims_of(value: ValueInfoProto) -> Dims | None:
    """Return a value's declared dims: a number, a name, or None for an unknown; None without a
    shape.
    """
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)
        for dim in tensor.shape.dim
    ]


def dtype_of(value: ValueInfoProto) -> str:
    """Return a value's element type, named as in the contracts."""
    element = value.type.tensor_type.elem_type
    return TYPE_NAMES.get(element, TensorProto.DataType.Name(element).lower())


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())):
                yield from all_graphs(inner)


def count_ops(model: ModelProto) -> dict[str, int]:
    """Return how many nodes of each operator a model has, inner graphs included, sorted by name."""
    ops = Counter(
        f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        for graph in all_graphs(model.graph)
        for node in graph.node
    )
    return dict(sorted(ops.items()))


def describe(model: ModelProto, size: int) -> dict[str, Any]:
    """Return a model's figures for manifest and `inspect`; `size` is that of its files, in
    bytes.
    """
    return {
        "nodes": len(model.graph.node),
        "ops": count_ops(model),
        "bytes": size,
        "opset": opsets_of(model).get(""),
        "initializers": len(model.graph.initializer),
    }


def opsets_of(model: ModelProto) -> dict[str, int]:
    """Return the version of each operator domain that a model imports; "" is ONNX's own."""
    return {
        "" if entry.domain == "ai.onnx" else entry.domain: entry.version
        for entry in model.opset_import
    }


def is_external(tensor: TensorProto) -> bool:
    """Return whether a tensor's values lie in another file."""
    return tensor.data_location == TensorProto.EXTERNAL


def size_of(tensor: TensorProto) -> int:
    """Return how many bytes a tensor's values take."""
    item: int = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return _count(tensor) * item


def set_aside(model: ModelProto) -> tuple[ModelProto, dict[str, TensorProto]]:
    """Split a model into its structure and its weights.

    Floating-point constants of at least `WEIGHT_ELEMENTS`, and whatever lies in another file,
    become inputs, so that nothing which comes after can fold, copy or even read them.

    Returns:
        The structure, and the constants by name; the constants still belong to `model`.
    """
    aside = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if is_external(tensor)
        or (tensor.data_type == TensorProto.FLOAT and _count(tensor) >= WEIGHT_ELEMENTS)
    }
    structure = ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _copy_field(structure, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _copy_field(structure.graph, field.name, value)
    structure.graph.initializer.extend(
        tensor for tensor in model.graph.initializer if tensor.name not in aside
    )
    declared = {value.name for value in structure.graph.input}
    for name, tensor in aside.items():
        if name not in declared:
            structure.graph.input.append(
                onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            )
    return structure, aside


def rejoin(structure: ModelProto, aside: Mapping[str, TensorProto]) -> None:
    """Undo `set_aside` after the structure was edited; constants without a use are left out."""
    graph = structure.graph
    _replace(graph.input, [value for value in graph.input if value.name not in aside])
    used = {name for inner in all_graphs(graph) for node in inner.node for name in node.input}
    used |= {value.name for value in graph.output}
    small = {tensor.name: tensor for tensor in graph.initializer}
    weights = {name: aside[name] for name in used & set(aside)}
    ordered = [item for _, item in sorted((small | weights).items())]
    del graph.initializer[:]
    graph.initializer.extend(ordered)


def lift_constants(model: ModelProto) -> None:
    """Turn Constant nodes into initializers and let equal initializers share one name.

    Those in other files keep theirs: they are large, and torch writes equal ones once.
    """
    graph = model.graph
    nodes: list[NodeProto] = []
    for node in graph.node:
        value = next((entry for entry in node.attribute if entry.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value.t)
            tensor.name = node.output[0]
        else:
            nodes.append(node)
    _replace(graph.node, nodes)
    first: dict[bytes, str] = {}
    names = {
        tensor.name: first.setdefault(_content_key(tensor), tensor.name)
        for tensor in sorted(graph.initializer, key=lambda tensor: tensor.name)
        if not is_external(tensor)
    }
    for inner in all_graphs(graph):
        for node in inner.node:
            for index, name in enumerate(node.input):
                node.input[index] = names.get(name, name)


def name_nodes(model: ModelProto) -> None:
    """Give nodes that have no name, or share one, that of their first output, which is unique."""
    counts = Counter(node.name for node in model.graph.node)
    for node in model.graph.node:
        if not node.name or counts[node.name] > 1:
            node.name = node.output[0]


def drop_unused(model: ModelProto) -> None:
    """Remove nodes and initializers that no output depends on."""
    graph = model.graph
    while True:
        used = {name for inner in all_graphs(graph) for node in inner.node for name in node.input}
        used |= {value.name for value in graph.output}
        live = [node for node in graph.node if used.intersection(node.output)]
        if len(live) == len(graph.node):
            break
        _replace(graph.node, live)
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])


def infer_strictly(model: ModelProto) -> ModelProto:
    """Return a model with the shapes that ONNX infers and no others, outputs' included.

    Raises:
        StageError: Strict shape inference fails.
    """
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        return infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)
    except InferenceError as error:
        raise StageError(
            f"Strict shape inference fails on {model.graph.name or 'a graph'}.",
            f"ONNX says: {' '.join(str(error).split())[:500]}",
            "This is a fault of the exporter or of the simplifier: try --simplifier none.",
        ) from error


def declare_outputs(model: ModelProto, golden: Mapping[str, Any]) -> None:
    """Give the outputs the contract's dims, after comparing them with the inferred ones.

    Raises:
        StageError: An inferred dim contradicts the contract, or a static one was not inferred.
    """
    for output, wanted in zip(model.graph.output, golden["outputs"], strict=True):
        problem = compare_dims(dims_of(output), wanted["dims"])
        if problem or output.name != wanted["name"]:
            raise StageError(
                f"The graph {golden['name']} has another output {output.name} than its contract.",
                as_sentence(problem or f"the contract's is called {wanted['name']}"),
                "This is a fault of the exporter, or the contract is of another picture size.",
            )
        shape = output.type.tensor_type.shape
        shape.ClearField("dim")
        for dim in wanted["dims"]:
            entry = shape.dim.add()
            if isinstance(dim, str):
                entry.dim_param = dim
            else:
                entry.dim_value = dim


def compare_dims(inferred: Dims | None, wanted: Sequence[int | str]) -> str:
    """Say how inferred dims contradict a contract's; empty where they bear them out."""
    if inferred is None or len(inferred) != len(wanted):
        return f"its inferred shape is {inferred}, the contract's {list(wanted)}"
    for found, dim in zip(inferred, wanted, strict=True):
        static = isinstance(found, int)
        if static != isinstance(dim, int) or (static and found != dim):
            return f"its inferred shape is {inferred}, the contract's {list(wanted)}"
    return ""


def set_metadata(model: ModelProto, metadata: Mapping[str, str]) -> None:
    """Replace everything that a model says about itself: no tool, date or path remains."""
    for field in ("doc_string", "domain", "model_version", "producer_version", "metadata_props"):
        model.ClearField(field)
    model.producer_name = "modelkiln"
    for graph in all_graphs(model.graph):
        graph.ClearField("doc_string")
        for node in graph.node:
            node.ClearField("doc_string")
    for key, value in sorted(metadata.items()):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def _content_key(tensor: TensorProto) -> bytes:
    array = onnx.numpy_helper.to_array(tensor)
    head = f"{tensor.data_type} {array.shape} ".encode()
    return hashlib.sha256(head + array.tobytes()).digest()


def _count(tensor: TensorProto) -> int:
    return math.prod(tensor.dims)


def _copy_field(message: Any, name: str, value: Any) -> None:
    if isinstance(value, int | str):
        setattr(message, name, value)
    else:
        getattr(message, name).extend(value)


def _replace(field: Any, items: Iterable[Any]) -> None:
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)
