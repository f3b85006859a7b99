"""A contract's document for one target: what depends on model and parameters is filled in.

A text in braces is an expression: `{height // 14 * (width // 14)}`. It may use the integers among
the model's settings (`embed_dim`), the target's parameters by name, and of a size `height` and
`width`. Braces may stand among `dims`, where anything else that is no number names a dynamic axis,
and in `preprocessing`. A contract's `profile` has such texts too, over axes (`profiles`).
"""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from modelkiln.errors import UsageError

# Protocol Buffers, and so an ONNX file, ends there.
LARGEST_FILE: Final = 2**31

_OPERATORS: Final[Mapping[type[ast.operator], Callable[[int, int], int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def fill_contract(
    golden: Mapping[str, Any], numbers: Mapping[str, int], weights_bytes: int
) -> dict[str, Any]:
    """Return the document with numbers in the place of expressions.

    Args:
        golden: A contract's document.
        numbers: What expressions may use.
        weights_bytes: Size of the model's checkpoint. Where a graph with these weights does not fit
            into one file, it keeps the `data` that its entry names, the file beside it that takes
            them; otherwise it has none.

    Raises:
        UsageError: An expression is wrong.
    """
    graphs = [_fill_graph(graph, numbers) for graph in golden["graphs"]]
    if weights_bytes < LARGEST_FILE:
        for graph in graphs:
            graph.pop("data", None)
    filled = {**golden, "graphs": graphs}
    if "preprocessing" in golden:
        filled["preprocessing"] = {
            name: _fill(value, numbers) for name, value in golden["preprocessing"].items()
        }
    return filled


def _fill_graph(graph: Mapping[str, Any], numbers: Mapping[str, int]) -> dict[str, Any]:
    values = {
        kind: [
            {**value, "dims": [_fill(dim, numbers) for dim in value["dims"]]}
            for value in graph[kind]
        ]
        for kind in ("inputs", "outputs")
    }
    return {**graph, **values}


def _fill(value: Any, numbers: Mapping[str, int]) -> Any:
    if not isinstance(value, str) or not {"{", "}"} & set(value):
        return value
    return evaluate(value, numbers)


def evaluate(text: str, numbers: Mapping[str, int]) -> int:
    """Return what an expression in braces comes to.

    Args:
        text: The expression.
        numbers: What it may use, by name; what it writes as `name[0]` under `"name[0]"`.

    Raises:
        UsageError: It is wrong, or uses something else.
    """
    try:
        if not (text.startswith("{") and text.endswith("}")):
            raise ValueError("braces stand at both ends of an expression")
        return _compute(ast.parse(text[1:-1].strip(), mode="eval").body, numbers)
    except (SyntaxError, KeyError, ValueError, ZeroDivisionError) as error:
        known = ", ".join(sorted(numbers)) or "no names"
        raise UsageError(
            f"A contract's {text} has no value.",
            f"{type(error).__name__}: {error}; known are {known}.",
            "Correct the contract's file, or the model's settings.",
        ) from error


def _compute(node: ast.expr, numbers: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int(value)) if type(value) is int:
            return value
        case ast.Name(id=name):
            return numbers[name]
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=int(index))):
            return numbers[f"{name}[{index}]"]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_compute(left, numbers), _compute(right, numbers))
        case _:
            raise ValueError("it may use numbers, names and + - * //")
