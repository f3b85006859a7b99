"""What a stage tells of its errors is told in sentences, in every module of the room."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

EXPORTERS: Final = Path(__file__).parents[2] / "exporters"


COMMANDS: Final = ("invoke ", "chmod ")


SPOKEN: Final = ("what", "why", "next", "then")


TREES: Final = {
    path.relative_to(EXPORTERS).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(EXPORTERS.rglob("*.py"))
}


def _find_makers(tree: ast.Module) -> dict[str, list[str]]:
    """Return the functions of a module that make errors, with the names of what they take."""
    return {
        node.name: [one.arg for one in node.args.args]
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and isinstance(node.returns, ast.Name)
        and node.returns.id == "StageError"
        and set(SPOKEN) & {one.arg for one in node.args.args}
    }


MAKERS: Final = {
    "StageError": ["what", "why", "next"],
    "not_verified": _find_makers(TREES["checks/verdict.py"])["not_verified"],
}


def _spell_out(node: ast.expr, constants: dict[str, ast.expr]) -> Iterator[ast.expr]:
    """Yield each text that an argument can come to."""
    if isinstance(node, ast.IfExp):
        yield from _spell_out(node.body, constants)
        yield from _spell_out(node.orelse, constants)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _spell_out(value, constants)
    elif isinstance(node, ast.Name) and node.id in constants:
        yield from _spell_out(constants[node.id], constants)
    else:
        yield node


def find_texts(tree: ast.Module) -> Iterator[tuple[int, ast.expr]]:
    """Yield the parts of all errors of a module, with their lines."""
    makers = {**MAKERS, **_find_makers(tree)}
    constants = {
        node.target.id: node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value
    }
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            continue
        names = makers.get(call.func.id, [])
        given = {**dict(zip(names, call.args, strict=False))}
        given.update({one.arg: one.value for one in call.keywords if one.arg in names})
        for name, value in given.items():
            if name in SPOKEN:
                yield from ((call.lineno, text) for text in _spell_out(value, constants))
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name in makers:
            for default in function.args.defaults:
                yield from ((function.lineno, text) for text in _spell_out(default, constants))


def is_sentence(node: ast.expr) -> bool:
    """Tell whether a text begins and ends as a sentence does; a placeholder may be either end."""
    if isinstance(node, ast.Constant):
        first = last = node.value
    elif isinstance(node, ast.JoinedStr):
        ends = (node.values[0], node.values[-1])
        first, last = (one.value if isinstance(one, ast.Constant) else "" for one in ends)
    else:
        return not isinstance(node, ast.BinOp)
    begins = not first or first[0].isupper() or first.startswith(COMMANDS)
    return begins and (not last or last.endswith((".", "?")))


def _parse(text: str) -> ast.Module:
    return ast.parse(f"raise StageError({text})")


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("'The file is gone.'", True),
        ("'the file is gone.'", False),
        ("'The file is gone'", False),
        ("f'{name} is gone.'", True),
        ("f'{name} is gone'", False),
        ("f'ONNX Runtime says: {failure}'", True),
        ("'invoke doctor says more.'", True),
        ("'Is it there?'", True),
        ("'The file is gone.' if lost else 'it is there'", False),
        ("found or 'it is there'", False),
        ("str(failure)", True),
        ("'the worst: ' + str(failure)", False),
    ],
)
def test_what_a_sentence_is(text: str, good: bool) -> None:
    found = [node for _, node in find_texts(_parse(text))]
    assert found
    assert all(map(is_sentence, found)) is good


@pytest.mark.parametrize("name", TREES)
def test_errors_are_told_in_sentences(name: str) -> None:
    wrong = [
        f"{name}:{line}: {ast.unparse(text)}"
        for line, text in find_texts(TREES[name])
        if not is_sentence(text)
    ]
    assert not wrong
