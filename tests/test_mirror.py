"""tests/ mirrors modelkiln/ and bench/: a module that does something has tests of its own."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Of bench/sides, whose environment is another one, tests/bench/sides has the tests.
MODULES = [*ROOT.glob("modelkiln/**/*.py"), *ROOT.glob("bench/*.py")]
TESTS = [*ROOT.glob("tests/modelkiln/**/test_*.py"), *ROOT.glob("tests/bench/test_*.py")]
# What begins like this is tested elsewhere, and where.
ELSEWHERE = {
    "modelkiln/commands/tasks/": "commands/test_task.py: their flags, and what they hand on",
    "bench/tasks": "commands/test_task.py, likewise",
}
# Files of tests that are of no one module, and what of.
SHARED = {
    "modelkiln/building/test_built": "what no GPU ran: built, told, inspected, never verified",
    "modelkiln/building/test_held_back": "what does not pay: built, told, verified, not published",
    "modelkiln/planning/stages/test_stages": "the package: its stages, and those that are added",
    "modelkiln/store/test_crash": "kill -9 at every step of what the store does",
    "modelkiln/store/test_disks": "full, failing and read-only disks, under all of the store",
    "modelkiln/store/test_faults": "damage, on which all of the store has to agree",
    "modelkiln/test_rooms": "which package may import which",
}


def has_behaviour(text: str) -> bool:
    """Whether a module defines a function, or a method with a name of its own."""
    found = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))
    return any(not node.name.startswith("__") for node in found)


def test_a_module_that_does_something_has_tests_of_its_own() -> None:
    doing = [
        path.relative_to(ROOT)
        for path in sorted(MODULES)
        if path.name != "__init__.py" and has_behaviour(path.read_text(encoding="utf-8"))
    ]
    assert len(doing) > 100
    assert [
        path.as_posix()
        for path in doing
        if not (ROOT / "tests" / path.with_name(f"test_{path.name}")).is_file()
        and not path.as_posix().startswith(tuple(ELSEWHERE))
    ] == []


def test_a_file_of_tests_is_called_after_its_module() -> None:
    names = [path.relative_to(ROOT / "tests") for path in TESTS]
    assert {
        path.with_suffix("").as_posix()
        for path in names
        if not (ROOT / path.with_name(path.name.removeprefix("test_"))).is_file()
    } == SHARED.keys()
