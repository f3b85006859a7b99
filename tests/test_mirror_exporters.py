"""The tests of exporters/ mirror it: a file test_MODULE.py for each module that does something.

Those under tests/exporters/ run on the Python of the environment `export`, those under
tests/quantize/ and tests/rtx/ on those of `quantize` and `rtx`; a module's may lie in any of them.
"""

import ast
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
ROOMS: Final = tuple(ROOT / "tests" / one for one in ("exporters", "quantize", "rtx"))

# What has no file of tests of its own, and where it is tested instead.
UNTESTED: Final = {
    "sam2/image/export.py": "stages/test_export.py and test_convert.py run it whole",
    "sam2/image/predict.py": "stages/test_predict.py runs it whole",
}

# What is named after no module, and why.
CROSS_CUTTING: Final = {
    "tests/exporters/test_errors.py": "reads the errors of all modules",
    "tests/quantize/test_bench_sides.py": "tests modules of bench/sides that need this environment",
    "tests/rtx/test_bench_sides.py": "likewise",
}


def _acts(path: Path) -> bool:
    """Tell whether a module defines a function or a method."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree))


def _test_of(path: Path) -> str:
    """Return where the tests of a module lie, below any room."""
    below = path.relative_to(ROOT / "exporters")
    return below.with_name(f"test_{below.stem.strip('_')}.py").as_posix()


MODULES: Final = {
    path.relative_to(ROOT / "exporters").as_posix(): _test_of(path)
    for path in sorted((ROOT / "exporters").rglob("*.py"))
    if _acts(path)
}
TESTS: Final = {
    path.relative_to(ROOT).as_posix(): path.relative_to(room).as_posix()
    for room in ROOMS
    for path in sorted(room.rglob("test_*.py"))
}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_tests_of_its_own(module: str) -> None:
    tested = MODULES[module] in TESTS.values()
    assert tested is (module not in UNTESTED), f"{module}: {MODULES[module]}"


@pytest.mark.parametrize("name", TESTS)
def test_a_file_of_tests_is_named_after_its_module(name: str) -> None:
    named = TESTS[name] in MODULES.values()
    assert named is (name not in CROSS_CUTTING)


def test_exceptions_are_few_and_of_what_is_there() -> None:
    assert set(UNTESTED) <= set(MODULES)
    assert set(CROSS_CUTTING) <= set(TESTS)
    assert len(UNTESTED) < 15
