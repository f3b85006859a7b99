"""tests/ mirrors modelkiln/ and bench/: a module that does something has tests of its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Of bench/sides, whose environment is another one, tests/bench/sides has the tests.
MODULES = [*ROOT.glob("modelkiln/**/*.py"), *ROOT.glob("bench/*.py")]
# What begins like this is tested elsewhere, and why.
ELSEWHERE = {
    "modelkiln/commands/tasks/": "flags and their hand-over: commands/test_task.py",
    "bench/tasks": "likewise",
}
# Files of tests that are of no one module, and why.
SHARED = {
    "modelkiln/test_rooms": "which package may import which",
    "modelkiln/building/test_held_back": "what does not pay: built, told, verified, not published",
    "modelkiln/store/test_crash": "kill -9 at every step of what the store does",
    "modelkiln/store/test_disks": "full, failing and read-only disks, under all of the store",
    "modelkiln/store/test_faults": "damage, on which all of the store has to agree",
    "modelkiln/planning/stages/test_stages": "the package: its stages, and those that are added",
}


def has_behaviour(text: str) -> bool:
    """Whether a module defines a function or a method; a protocol's are no more than names."""
    tree = ast.parse(text)
    holders = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    protocols = [one for one in holders if "Protocol" in map(ast.unparse, one.bases)]
    names = [
        node.name
        for body in (tree.body, *(one.body for one in holders if one not in protocols))
        for node in body
        if isinstance(node, ast.FunctionDef)
    ]
    return any(not name.startswith("__") for name in names)


def test_a_module_that_does_something_has_tests_of_its_own() -> None:
    names = {
        path.relative_to(ROOT).with_suffix("").as_posix(): path
        for path in MODULES
        if path.name != "__init__.py" and has_behaviour(path.read_text(encoding="utf-8"))
    }
    missing = [
        name
        for name in sorted(names)
        if not (ROOT / "tests" / Path(name).parent / f"test_{Path(name).name}.py").is_file()
        and not name.startswith(tuple(ELSEWHERE))
    ]
    assert missing == []


def test_a_file_of_tests_is_called_after_its_module() -> None:
    found = [*ROOT.glob("tests/modelkiln/**/test_*.py"), *ROOT.glob("tests/bench/test_*.py")]
    stray = {
        name.as_posix()
        for name in (path.relative_to(ROOT / "tests").with_suffix("") for path in found)
        if not (ROOT / name.parent / f"{name.name.removeprefix('test_')}.py").is_file()
    }
    assert stray == SHARED.keys()


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ("A = 1\nclass B:\n    a: int", False),
        ("class B:\n    def __str__(self): return ''", False),
        ("class B(Protocol):\n    def b(self): ...", False),
        ("class B:\n    @property\n    def b(self): return 1", True),
        ("def b(): pass", True),
    ],
)
def test_behaviour_is_told_from_names(text: str, does: bool) -> None:
    assert has_behaviour(text) is does
