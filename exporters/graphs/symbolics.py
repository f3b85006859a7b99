"""How a few torch operators become ONNX: the exporter's own way, minus the shape arithmetic.

The TorchScript exporter rebuilds shapes and paddings from tensors even where they are constants of
the trace. ONNX can say "as it was" (a 0 in Reshape) and "whatever is left" (-1), so these
operators need neither. A form that they do not cover is an error, not a longer graph.
"""

from typing import Any, Final

import torch
from torch.onnx import symbolic_helper

_OPSETS: Final = range(17, 21)


def register_symbolics() -> None:
    """Teach the exporter these operators, for this process."""
    for opset in _OPSETS:
        for name, symbolic in (
            ("aten::expand", _expand),
            ("aten::flatten", _flatten),
            ("aten::pad", _pad),
            ("aten::repeat", _repeat),
            ("aten::scaled_dot_product_attention", _attention),
            ("aten::unflatten", _unflatten),
        ):
            torch.onnx.register_custom_op_symbolic(name, symbolic, opset)


def _constant(g: Any, values: list[int]) -> Any:
    return g.op("Constant", value_t=torch.tensor(values, dtype=torch.int64))


def _rank(x: Any) -> int:
    rank = symbolic_helper._get_tensor_rank(x)
    if rank is None:
        raise ValueError("a tensor of unknown rank")
    return int(rank)


@symbolic_helper.parse_args("v", "v", "b")
def _expand(g: Any, x: Any, sizes: Any, _implicit: bool) -> Any:
    # ONNX broadcasts both ways: an axis that stays as it was is a 1.
    fixed = symbolic_helper._maybe_get_const(sizes, "is")
    if isinstance(fixed, list | tuple):
        return g.op("Expand", x, _constant(g, [max(size, 1) for size in fixed]))
    axes = []
    for size in symbolic_helper._unpack_list(sizes):
        number = symbolic_helper._maybe_get_const(size, "i")
        if isinstance(number, int):
            axes.append(_constant(g, [max(number, 1)]))
        else:
            axes.append(g.op("Reshape", size, _constant(g, [1])))
    return g.op("Expand", x, g.op("Concat", *axes, axis_i=0))


@symbolic_helper.parse_args("v", "i", "i")
def _flatten(g: Any, x: Any, start: int, end: int) -> Any:
    rank = _rank(x)
    if not 0 <= start < end % rank == rank - 1:
        raise ValueError(f"flatten({start}, {end}) does not reach the last axis of {rank}")
    return g.op("Reshape", x, _constant(g, [0] * start + [-1]))


@symbolic_helper.parse_args("v", "i", "is")
def _unflatten(g: Any, x: Any, axis: int, sizes: list[int]) -> Any:
    rank = _rank(x)
    if axis % rank != rank - 1:
        raise ValueError(f"unflatten({axis}) is not of the last axis of {rank}")
    if -1 not in sizes:
        # The exporter's shape inference cannot do zeros without a -1.
        sizes = [*sizes[:-1], -1]
    return g.op("Reshape", x, _constant(g, [0] * (rank - 1) + sizes))


@symbolic_helper.parse_args("v", "is", "s", "v")
def _pad(g: Any, x: Any, sizes: list[int], mode: str, value: Any) -> Any:
    # torch lists (before, after) from the last axis backwards, ONNX befores and then afters.
    if mode != "constant" or not symbolic_helper._is_none(value):
        raise ValueError(f"padding of mode {mode}, or with a value")
    empty = [0] * (_rank(x) - len(sizes) // 2)
    before, after = sizes[-2::-2], sizes[-1::-2]
    return g.op("Pad", x, _constant(g, [*empty, *before, *empty, *after]), mode_s="constant")


@symbolic_helper.parse_args("v", "is")
def _repeat(g: Any, x: Any, times: list[int]) -> Any:
    if len(times) != _rank(x):
        raise ValueError(f"repeat({times}) of {_rank(x)} axes")
    return g.op("Tile", x, _constant(g, times))


@symbolic_helper.parse_args("v", "v", "v", "v", "f", "b", "f", "b")
def _attention(
    g: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    dropout: float,
    causal: bool,
    scale: float,
    grouped: bool,
) -> Any:
    if dropout or causal or grouped or not symbolic_helper._is_none(mask):
        raise ValueError("attention with a mask, dropout or grouped heads")
    if scale is None:
        raise ValueError("attention without a scale: give it as a number")
    axes = list(range(_rank(key)))
    axes[-2:] = axes[-1], axes[-2]
    factor = g.op("Constant", value_t=torch.tensor(scale, dtype=torch.float32))
    scaled = g.op("Mul", query, factor)
    scores = g.op("MatMul", scaled, g.op("Transpose", key, perm_i=axes))
    return g.op("MatMul", g.op("Softmax", scores, axis_i=-1), value)
