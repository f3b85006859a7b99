"""The stage `inspect_graph`: whether a graph of the user's own can be quantized, and how it stands.

It must take one picture and nothing else, and be in float32, not quantized already. The graph is
written anew as the stages that follow want it: constants are initializers, every value has its
shape, and weights that lie in other files lie in one that is called as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from onnx import ModelProto, TensorProto, ValueInfoProto

from exporters.graphs.external_data import write_files
from exporters.graphs.structure import (
    Dims,
    all_graphs,
    count_ops,
    dims_of,
    drop_unused,
    dtype_of,
    infer_strictly,
    is_external,
    lift_constants,
    opsets_of,
    read_graph,
    rejoin,
    set_aside,
)
from exporters.protocol import BAD_INPUT, Result, StageError, Step

QUANTIZED: Final = frozenset(
    {
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    }
)

HALVES: Final[Mapping[int, str]] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
}

_AXES: Final = ("height", "width")
_NAMED: Final = 5


def run(step: Step) -> Result:
    """Read a graph; write it anew, unless it has weights in files that were not given.

    Parameters: `source` (the graph's name among the inputs; what lies in its folder there is given
    under that folder's name), `file` (what it is called from now on), `shown` (what errors call it)
    and `sides` ([height, width] for a graph that leaves them open, or an empty list).

    The metrics hold `graph` (as a contract has it, at the picture's size), `height`, `width`,
    `opset`, `metadata`, and `data`: the names of the files in which the weights lie.

    Raises:
        StageError: It is not an ONNX model, does not take one picture, is quantized or in float16
            already, is wrong, or sides were given that are not its own (exit code 2).
    """
    shown: str = step.param("shown")
    path = step.input(step.param("source"))
    model = _read(path, shown)
    _refuse_quantized(model, shown)
    _refuse_half(model, shown)
    picture = _find_picture(model, shown)
    height, width = _sides(dims_of(picture) or [], step.param("sides"), shown)
    data = _find_data(model, shown)
    golden: dict[str, Any] = {"name": "model", "file": step.param("file"), "forbidden_ops": []}
    if data:
        golden["data"] = f"{golden['file']}.data"
    model = _prepare(model, shown)
    golden["inputs"] = [{"name": picture.name, "dtype": "float32", "dims": [1, 3, height, width]}]
    golden["outputs"] = [_describe(value, shown) for value in model.graph.output]
    outputs: list[str] = []
    room = PurePosixPath(step.param("source")).parent
    if all(str(room / name) in step.inputs for name in data):
        write_files(model, golden, step.out, path.parent)
        outputs = [golden["file"], *([golden["data"]] if data else [])]
    return Result(
        outputs=outputs,
        metrics={
            "graph": golden,
            "height": height,
            "width": width,
            "opset": opsets_of(model)[""],
            "metadata": {entry.key: entry.value for entry in model.metadata_props},
            "data": data,
        },
    )


def _read(path: Path, shown: str) -> ModelProto:
    try:
        model = read_graph(path)
    except StageError as error:
        raise _bad(f"{shown} is not an ONNX model.", error.why, "Name an .onnx file.") from error
    if "" not in opsets_of(model):
        raise _bad(
            f"{shown} is not an ONNX model.",
            "It does not say which version of ONNX's operators it is of.",
            "Name an .onnx file.",
        )
    return model


def _refuse_quantized(model: ModelProto, shown: str) -> None:
    found = sorted(QUANTIZED.intersection(count_ops(model)))
    if found:
        raise _bad(
            f"{shown} is quantized already.",
            f"It has nodes of {', '.join(found)}.",
            "Name the float32 graph that it was made from.",
        )


def _refuse_half(model: ModelProto, shown: str) -> None:
    found = sorted({HALVES[one] for one in _types(model) if one in HALVES})
    if found:
        raise _bad(
            f"{shown} is in {' and '.join(found)}.",
            f"It has weights or casts of {' and '.join(found)}, and quantization starts from "
            "float32.",
            "Name the float32 graph that it was made from; --dtype fp16 makes the rest float16.",
        )


def _types(model: ModelProto) -> Iterator[int]:
    """Yield the element types of a graph's constants and casts."""
    for graph in all_graphs(model.graph):
        yield from (tensor.data_type for tensor in graph.initializer)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t.data_type
                elif node.op_type == "Cast" and attribute.name == "to":
                    yield attribute.i


def _find_picture(model: ModelProto, shown: str) -> ValueInfoProto:
    """Return the graph's only input, a picture."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs: list[ValueInfoProto] = [
        value for value in model.graph.input if value.name not in constants
    ]
    if len(inputs) == 1 and _is_picture(inputs[0]):
        return inputs[0]
    listed = [f"{one.name} {dtype_of(one)} {dims_of(one)}" for one in inputs[:_NAMED]]
    more = [f"and {len(inputs) - _NAMED} more"] if len(inputs) > _NAMED else []
    raise _bad(
        f"{shown} does not take one picture.",
        f"One picture is one input of float32 [1, 3, height, width], and it has "
        f"{', '.join([*listed, *more]) or 'none'}.",
        "Calibration pictures can be shown to nothing else: name an image encoder.",
    )


def _is_picture(value: ValueInfoProto) -> bool:
    dims = dims_of(value)
    if dtype_of(value) != "float32" or dims is None or len(dims) != 4:
        return False
    batch, channels, *sides = dims
    fits = all(not isinstance(side, int) or side > 0 for side in sides)
    return channels == 3 and fits and (batch == 1 or not isinstance(batch, int))


def _sides(dims: Dims, given: Sequence[int], shown: str) -> tuple[int, int]:
    """Return the height and width of the picture: the graph's own where it has them."""
    found: list[int] = []
    for axis, own, name in zip((0, 1), dims[2:], _AXES, strict=True):
        if isinstance(own, int):
            if given and given[axis] != own:
                raise _bad(
                    f"{shown} takes pictures of {name} {own}, not {given[axis]}.",
                    "Its input has this size, and --image-input-dimension gives another.",
                    "Leave --image-input-dimension out.",
                )
            found.append(own)
        elif given:
            found.append(given[axis])
        else:
            raise _bad(
                f"{shown} takes pictures of any {name}.",
                f"Its input is {dims}, and calibration needs one size.",
                "Give --image-input-dimension HEIGHT,WIDTH.",
            )
    return found[0], found[1]


def _find_data(model: ModelProto, shown: str) -> list[str]:
    """Return the files in which weights lie, relative to the graph's folder."""
    names = sorted({dict(_entries(tensor)).get("location", "") for tensor in _external(model)})
    for name in names:
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise _bad(
                f"{shown} has weights in {name!r}.",
                "That is not a file in or below its own folder.",
                "Save it with its weights beside it.",
            )
    return names


def _prepare(model: ModelProto, shown: str) -> ModelProto:
    """Return the same graph with constants as initializers, and shapes inferred anew."""
    lift_constants(model)
    structure, weights = set_aside(model)
    constants = {tensor.name for tensor in structure.graph.initializer}
    inputs = [
        ValueInfoProto.FromString(value.SerializeToString())
        for value in structure.graph.input
        if value.name not in constants
    ]
    del structure.graph.input[:]
    structure.graph.input.extend(inputs)
    drop_unused(structure)
    try:
        inferred = infer_strictly(structure)
    except StageError as error:
        raise _bad(
            f"The shapes of {shown} cannot be inferred.",
            error.why,
            "Export it anew, with operators of ONNX alone.",
        ) from error
    rejoin(inferred, weights)
    return inferred


def _describe(value: ValueInfoProto, shown: str) -> dict[str, Any]:
    """Return an output as a contract has it; inference gives every open side a name."""
    dims = dims_of(value)
    if not value.type.HasField("tensor_type") or dims is None:
        raise _bad(
            f"The shape of the output {value.name} of {shown} cannot be inferred.",
            "Nothing says how many dimensions it has.",
            "Export it anew, with static shapes.",
        )
    return {"name": value.name, "dtype": dtype_of(value), "dims": dims}


def _external(model: ModelProto) -> Iterator[TensorProto]:
    for graph in all_graphs(model.graph):
        yield from (tensor for tensor in graph.initializer if is_external(tensor))
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t") and is_external(attribute.t):
                    yield attribute.t


def _entries(tensor: TensorProto) -> Iterator[tuple[str, str]]:
    return ((entry.key, entry.value) for entry in tensor.external_data)


def _bad(what: str, why: str, next: str) -> StageError:  # noqa: A002
    return StageError(what, why, next, exit_code=BAD_INPUT)
