"""A parsed network held against its contract: names, order, types, dims; and the shapes that an
engine is built for, checked before TensorRT sees them.

TensorRT takes a range for an input that does not exist without a word, and tells of min > opt only
by returning -1.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporters.tensorrt.network import Tensor

# By input: min, opt and max of its dims.
Shapes = Mapping[str, Sequence[Sequence[int]]]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A dynamic axis of a graph: what it may be, in an engine."""

    min: int
    max: int


def find_differences(
    golden: Mapping[str, Any],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    axes: Mapping[str, Axis],
) -> list[str]:
    """Return how a network differs from its contract, a line each.

    Args:
        golden: The contract's graph.
        inputs: The network's.
        outputs: The network's.
        axes: Its dynamic axes; a dim whose axis is fixed has to have that size in the network.
    """
    lines: list[str] = []
    for kind, found in (("inputs", inputs), ("outputs", outputs)):
        wanted = golden[kind]
        names = [one["name"] for one in wanted]
        if [one.name for one in found] != names:
            lines.append(
                f"its {kind} are {', '.join(one.name for one in found)}, "
                f"and the contract's {', '.join(names)}"
            )
            continue
        lines.extend(
            line
            for value, tensor in zip(wanted, found, strict=True)
            for line in _differences_of(value, tensor, axes)
        )
    return lines


def _differences_of(
    value: Mapping[str, Any], tensor: Tensor, axes: Mapping[str, Axis]
) -> Iterator[str]:
    if tensor.dtype != value["dtype"]:
        yield f"{tensor.name} is {tensor.dtype}, and the contract's {value['dtype']}"
    dims = value["dims"]
    same = len(dims) == len(tensor.dims) and all(
        _fits(dim, found, axes) for dim, found in zip(dims, tensor.dims, strict=True)
    )
    if not same:
        yield (
            f"{tensor.name} has dims {list(tensor.dims)}, "
            f"and the contract's are [{', '.join(map(str, dims))}]"
        )


def _fits(dim: int | str, found: int, axes: Mapping[str, Axis]) -> bool:
    if isinstance(dim, int):
        return found == dim
    axis = axes.get(dim)
    if axis is not None and axis.min == axis.max:
        return found == axis.min
    return found == -1


def find_axes(golden: Mapping[str, Any], shapes: Shapes) -> dict[str, Axis]:
    """Return the dynamic axes of a graph's inputs, as the shapes of its engine have them."""
    axes: dict[str, Axis] = {}
    for value in golden["inputs"]:
        if value["name"] not in shapes:
            continue
        low, _, high = shapes[value["name"]]
        for dim, least, most in zip(value["dims"], low, high, strict=True):
            if isinstance(dim, str):
                axes[dim] = Axis(min=least, max=most)
    return axes


def find_shape_faults(inputs: Sequence[Tensor], shapes: Shapes) -> list[str]:
    """Return what is wrong with the shapes that an engine is to be built for, a line each.

    Args:
        inputs: The network's, as the parser left them.
        shapes: Those asked for.
    """
    known = {one.name: one.dims for one in inputs}
    faults = [f"there is no input {name}" for name in shapes if name not in known]
    for name, dims in known.items():
        if name not in shapes:
            if -1 in dims:
                faults.append(f"the input {name} has open dims, and no shapes are given for it")
            continue
        low, opt, high = (list(one) for one in shapes[name])
        text = f"{name}: {low} to {high}, best {opt}"
        if not len(low) == len(opt) == len(high) == len(dims):
            faults.append(f"{text}: the input has {len(dims)} dims")
        elif not all(1 <= a <= b <= c for a, b, c in zip(low, opt, high, strict=True)):
            faults.append(f"{text}: every dim needs 1 <= min <= opt <= max")
        elif any(
            have not in (-1, a) or (have != -1 and a != c)
            for have, a, c in zip(dims, low, high, strict=True)
        ):
            faults.append(f"{text}: the graph's dims are {list(dims)}")
    return faults


def is_fixed(shapes: Shapes) -> bool:
    """Return whether every input has one shape, so that the engine's bytes are promised."""
    return all(list(low) == list(high) for low, _, high in shapes.values())
