"""Draws docs/architecture.svg from the imports: packages by their floor, and the way of a target.

    .venv/bin/python docs/draw_architecture.py

The test of imports reads FLOORS too, so the picture and the order that is enforced are one.
"""

import ast
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
PICTURE = Path(__file__).with_suffix("").with_name("architecture.svg")

# Each may import what stands in a line above its own, and nothing that shares its line.
FLOORS = (
    ("errors",),
    ("paths",),
    ("util",),
    ("catalog", "store", "report"),
    ("planning", "fetch"),
    ("environments",),
    ("containers",),
    ("runners",),
    ("building",),
    ("commands",),
    ("bench",),
    ("tasks",),
)

LEFT, WIDTH, GAP, EDGE = 66, 690, 26, 14
WAY_LEFT, WAY_WIDTH = 800, 330
LINE, CHARACTER = 14, 6.05
INK, SOFT, LINES, FILL, ACCENT = "#1b1f24", "#57606a", "#8c959f", "#f6f8fa", "#0b5cad"


def sources() -> list[Path]:
    """Return every source file of the host side."""
    packages = sorted((ROOT / "modelkiln").rglob("*.py"))
    return [ROOT / "tasks.py", *packages, *sorted((ROOT / "bench").glob("*.py"))]


def module_name(path: Path) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def place_of(module: str) -> str:
    """Return the package that a module belongs to: modelkiln.store.gc is of `store`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "modelkiln" and len(parts) > 1 else parts[0]


def imports(text: str) -> Iterator[str]:
    """Yield every module that a source imports, wherever in it; `from a import b` is a.b too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{one.name}" for one in node.names)


def read_arrows() -> dict[str, set[str]]:
    """Return which packages each package imports."""
    known = {name for names in FLOORS for name in names}
    arrows: dict[str, set[str]] = {name: set() for name in known}
    for path in sources():
        own = place_of(module_name(path))
        for other in imports(path.read_text(encoding="utf-8")):
            if other.split(".")[0] in ("modelkiln", "bench", "tasks"):
                place = place_of(other)
                if own in known and place in known and place != own:
                    arrows[own].add(place)
    return arrows


def reduce_arrows(arrows: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Return the arrows that do not follow from others: those to be drawn."""

    def reach(name: str) -> set[str]:
        found: set[str] = set()
        queue = [*arrows[name]]
        while queue:
            one = queue.pop()
            if one not in found:
                found.add(one)
                queue.extend(arrows[one])
        return found

    far = {name: {two for one in others for two in reach(one)} for name, others in arrows.items()}
    return {name: sorted(others - far[name]) for name, others in arrows.items()}


def read_modules(name: str) -> tuple[str, list[str]]:
    """Return what a package says that it is, and its modules."""
    if name == "tasks":
        path, files = ROOT / "tasks.py", []
    elif (folder := ROOT / "modelkiln" / name).is_dir():
        path, files = folder / "__init__.py", sorted(folder.rglob("*.py"))
    elif name == "bench":
        path, files = ROOT / "bench" / "__init__.py", sorted((ROOT / "bench").glob("*.py"))
    else:
        path, files = ROOT / "modelkiln" / f"{name}.py", []
    summary = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
    names = [
        one.relative_to(path.parent).with_suffix("").as_posix()
        for one in files
        if one.name != "__init__.py"
    ]
    return summary, names


def read_steps() -> list[str]:
    """Return the names of the steps of a build, as building/session.py lists them."""
    tree = ast.parse((ROOT / "modelkiln/building/session.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STEPS":
            return [ast.unparse(one).removeprefix("Session.") for one in node.value.elts]  # type: ignore[attr-defined]
    raise ValueError("building/session.py has no STEPS")


def text(x: float, y: float, said: str, size: int = 12, style: str = "", ink: str = INK) -> str:
    """Return one line of text."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{ink}" {style}>{escape(said)}</text>'
    )


def box(x: float, y: float, width: float, height: float, stroke: str = LINES) -> str:
    """Return a box with round corners."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" '
        f'fill="{FILL}" stroke="{stroke}"/>'
    )


def draw_packages(top: float) -> tuple[list[str], float]:
    """Draw the packages, the highest floor first, and the arrows between them."""
    made: list[str] = []
    places: dict[str, tuple[float, float, float, float]] = {}
    floors: dict[str, int] = {}
    y = top
    for number, names in enumerate(reversed(FLOORS)):
        width = (WIDTH - GAP * (len(names) - 1)) / len(names)
        columns = int((width - 20) / CHARACTER)
        drawn = []
        for name in names:
            summary, modules = read_modules(name)
            lines = textwrap.wrap("  ".join(modules), columns, break_on_hyphens=False)
            said = textwrap.wrap(summary, int(columns * 0.98))
            drawn.append((name, said, lines))
        height = max(28 + LINE * (len(said) + len(lines)) for _, said, lines in drawn)
        for place, (name, said, lines) in enumerate(drawn):
            x = LEFT + place * (width + GAP)
            places[name], floors[name] = (x, y, width, height), number
            made.append(box(x, y, width, height))
            title = name if name in ("bench", "tasks") else f"modelkiln/{name}"
            title += ".py" if name in ("tasks", "paths", "errors") else "/"
            made.append(text(x + 10, y + 18, title, 13, 'font-weight="bold"'))
            for row, line in enumerate(said):
                made.append(text(x + 10, y + 33 + LINE * row, line, 11, ink=SOFT))
            for row, line in enumerate(lines):
                at = y + 33 + LINE * (row + len(said))
                made.append(text(x + 10, at, line, 10, 'font-family="monospace"', ACCENT))
        y += height + GAP
    return [*draw_arrows(places, floors), *made], y


def draw_arrows(
    places: Mapping[str, tuple[float, float, float, float]], floors: Mapping[str, int]
) -> list[str]:
    """Draw arrows to the next floor straight, and those that go further in the gutter."""
    made: list[str] = []
    gutter = LEFT - 12.0
    arriving: dict[str, int] = {}
    for name, others in sorted(
        reduce_arrows(read_arrows()).items(), key=lambda one: (floors[one[0]], one[0])
    ):
        x, y, width, height = places[name]
        for other in sorted(others, key=lambda one: (floors[one], one)):
            to_x, to_y, to_width, _ = places[other]
            number = arriving[other] = arriving.get(other, -1) + 1
            end = to_x + min(to_width - 20, 40 + 24 * number)
            if floors[other] == floors[name] + 1:
                end = max(end, x + 30) if end < x + 30 <= to_x + to_width - 10 else end
                start = min(max(end, x + 12), x + width - 12)
                middle = to_y - GAP / 2
                path = f"M{start:g},{y + height:g} V{middle:g} H{end:g} V{to_y - 3:g}"
            else:
                above = to_y - GAP / 2
                middle = y + height / 2
                path = f"M{x:g},{middle:g} H{gutter:g} V{above:g} H{end:g} V{to_y - 3:g}"
                if x > LEFT:
                    below = y + height + GAP / 2
                    path = (
                        f"M{x + 20:g},{y + height:g} V{below:g} H{gutter:g} V{above:g} "
                        f"H{end:g} V{to_y - 3:g}"
                    )
                gutter -= 9
            made.append(f'<path d="{path}" fill="none" stroke="{LINES}" marker-end="url(#head)"/>')
    return made


def draw_way(top: float) -> tuple[list[str], float]:
    """Draw the way of one target, from its name to its files."""
    steps = [one.replace("_", " ") for one in read_steps()]
    stops = (
        ("a name", "sam2.1_hiera_tiny/image/onnx-fp32", "what a user types; globs select many"),
        ("target", "catalog/selection.py", "model, weights, contract, format, parameters"),
        (
            "plan",
            "planning/planner.py, planning/stages/",
            "the steps that its format lists, as data",
        ),
        ("key", "planning/keys.py", "SHA-256 of all that a step can see"),
        ("record in the store?", "store/store.py", "yes: the step is done; no: it has to run"),
        ("runner", "building/prepare.py, runners/choice.py", "prepare() ends here: all is decided"),
        ("build", "building/build.py, building/session.py", ", then ".join(steps)),
        ("stage", "runners/, exporters/stages/", "one step in its environment, sealed"),
        ("record", "store/store.py", "outputs hashed and published, then the next step"),
        ("verify", "exporters/stages/verify.py", "against the contract and unpatched PyTorch"),
        ("files", "building/publish.py", "out/TARGET/ with manifest.json; what fails is not there"),
    )
    made: list[str] = []
    y = top
    for number, (title, where, said) in enumerate(stops):
        lines = textwrap.wrap(said, 52)
        height = 44 + LINE * len(lines)
        made.append(box(WAY_LEFT, y, WAY_WIDTH, height, ACCENT))
        made.append(text(WAY_LEFT + 10, y + 18, title, 13, 'font-weight="bold"'))
        made.append(text(WAY_LEFT + 10, y + 33, where, 10, 'font-family="monospace"', ACCENT))
        for row, line in enumerate(lines):
            made.append(text(WAY_LEFT + 10, y + 49 + LINE * row, line, 11, ink=SOFT))
        y += height
        if number + 1 < len(stops):
            middle = WAY_LEFT + WAY_WIDTH / 2
            made.append(
                f'<path d="M{middle:g},{y:g} V{y + GAP - 3:g}" stroke="{ACCENT}" '
                'marker-end="url(#head)"/>'
            )
            y += GAP
    return made, y


def draw() -> str:
    """Return the picture as SVG text: the same for the same sources."""
    packages, low = draw_packages(64)
    way, other = draw_way(64)
    height, width = max(low, other) + EDGE, WAY_LEFT + WAY_WIDTH + EDGE
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{LINES}"/></marker>'
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-family="Helvetica, Arial, sans-serif">',
        "<title>modelkiln: its packages, and the way of a target</title>",
        f"<defs>{head}</defs>",
        f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
        text(LEFT, 30, "Packages", 17, 'font-weight="bold"'),
        text(
            LEFT,
            48,
            "An arrow is an import; those that follow from others are left out.",
            11,
            ink=SOFT,
        ),
        text(WAY_LEFT, 30, "The way of a target", 17, 'font-weight="bold"'),
        text(WAY_LEFT, 48, "from its name to verified files", 11, ink=SOFT),
        *packages,
        *way,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(f"drew {PICTURE.relative_to(ROOT)}")
