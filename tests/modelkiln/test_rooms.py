"""Imports go one way between the packages of the host side, lazy ones included."""

from pathlib import Path

import pytest

from docs.draw_architecture import FLOORS, imports, module_name, place_of, sources

HEIGHTS = {name: height for height, names in enumerate(FLOORS) for name in names}


def find_upward(name: str, text: str) -> list[str]:
    """The imports of a module that break the order, as lines to read."""
    own = place_of(name)
    found = []
    for other in imports(text):
        place = place_of(other)
        if other.split(".")[0] in ("modelkiln", "bench", "tasks") and place in HEIGHTS:
            below = HEIGHTS[place] < HEIGHTS[own]
            if place != own and not below:
                found.append(f"{name} imports {other}")
        elif other.split(".")[0] in ("exporters", "torch", "onnx", "tests"):
            found.append(f"{name} imports {other}")
    return sorted(set(found))


def test_every_package_has_a_floor() -> None:
    places = {place_of(module_name(path)) for path in sources()}
    assert places - {"modelkiln"} == HEIGHTS.keys()


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_point_down(path: Path) -> None:
    name = module_name(path)
    if name != "modelkiln":
        assert find_upward(name, path.read_text(encoding="utf-8")) == []


def test_no_circle_within_a_package() -> None:
    known = {module_name(path): path for path in sources()}
    arrows = {
        name: {one for one in imports(path.read_text(encoding="utf-8")) if one in known} - {name}
        for name, path in known.items()
    }
    while free := [name for name, others in arrows.items() if not others & arrows.keys()]:
        for name in free:
            del arrows[name]
    assert arrows.keys() == set(), "these import one another in a circle"


@pytest.mark.parametrize(
    "text",
    [
        "from modelkiln.building.kiln import Kiln",
        "from modelkiln import building",
        "import bench.tasks",
        "def f():\n    from modelkiln.runners import local",
        "import torch",
        "from exporters.protocol import Step",
    ],
)
def test_an_import_that_points_up_is_seen(text: str) -> None:
    assert find_upward("modelkiln.planning.keys", text) != []
    assert find_upward("modelkiln.planning.keys", "from modelkiln.store import records") == []
