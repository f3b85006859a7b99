"""Imports under exporters/ point downwards only, those inside of functions too."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]

# The rooms, and the modules that lie in none, lowest first. One imports itself and what stands in
# a line above its own, and nothing that stands beside it.
ORDER: Final = (
    ("protocol",),
    ("memory", "upstream"),
    ("graphs", "media", "tensorrt", "weights"),
    ("checks", "precision"),
    ("dinov2", "sam2"),
    ("stages",),
    ("__main__",),
)

FILES: Final = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "exporters").rglob("*.py"))
}


def read_imports(module: str) -> Iterator[tuple[int, str]]:
    """The modules of the room that one imports, at any depth, with their lines."""
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in FILES else str(node.module) for name in inner]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "exporters")


def level_of(module: str) -> int:
    """In which line of the order the room of a module stands."""
    (level,) = (level for level, rooms in enumerate(ORDER) if module.split(".")[1] in rooms)
    return level


def test_every_room_has_its_place() -> None:
    named = sorted(room for rooms in ORDER for room in rooms)
    assert named == sorted({module.split(".")[1] for module in FILES if "." in module})


@pytest.mark.parametrize("module", [module for module in FILES if "." in module])
def test_imports_point_downwards(module: str) -> None:
    room = module.split(".")[1]
    wrong = [
        f"{FILES[module].relative_to(ROOT)}:{line} imports {name}"
        for line, name in read_imports(module)
        if "." not in name or (name.split(".")[1] != room and level_of(name) >= level_of(module))
    ]
    assert not wrong


@pytest.mark.parametrize(
    "path", sorted([*FILES.values(), *ROOT.glob("bench/sides/*.py")]), ids=lambda path: path.name
)
def test_the_host_side_is_not_imported(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{one.name}" for one in node.names)]
        # The sides of a bench are run by it, and may share what lies beside them.
        wrong = [one for one in names if one.split(".")[0] in ("modelkiln", "tasks", "tests")]
        wrong += [
            one
            for one in names
            if one.split(".")[0] == "bench" and (path in FILES.values() or "sides" not in one)
        ]
        assert not [one for one in wrong if one != "bench"]


def test_there_is_no_circle() -> None:
    TopologicalSorter({one: {name for _, name in read_imports(one)} for one in FILES}).prepare()
