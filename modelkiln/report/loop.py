"""The closed loop in a report: a video that graphs and upstream both follow, frame after frame."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NotRequired, TypedDict, TypeGuard

# As many colours as the page's style has.
COLOURS: Final = 6
_LEFT, _RIGHT, _HEIGHT, _GAP, _TOP = 160, 720, 84, 30, 14
_NAME_WIDTH, _NAMES_IN_LINE = 80, 7
_MOST_TICKS: Final = 12


class LoopRow(TypedDict):
    """An object on a frame; the mask does not count where it covers next to nothing or everything.

    `occlusion` is the logit, positive where the object is seen, and `expected_occlusion`
    upstream's. `ok` is what the verification said, where it said anything.
    """

    object: int
    frame: int
    iou: float | None
    coverage: float
    counted: bool
    occlusion: float | None
    expected_occlusion: float
    pointer_cosine: float | None
    ok: NotRequired[bool]


def same_sign(row: LoopRow) -> bool:
    """Return whether graphs and upstream agree on whether the object is seen."""
    found = row["occlusion"]
    return is_number(found) and (found > 0) == (row["expected_occlusion"] > 0)


def is_close(row: LoopRow) -> bool:
    """Return whether mask and pointer, where they count, are those of upstream."""
    measured = is_number(row["pointer_cosine"]) and (is_number(row["iou"]) or not row["counted"])
    return measured and row.get("ok", True)


def summarize_loop(rows: Sequence[LoopRow]) -> dict[str, Any]:
    """Return the worst of a loop.

    Returns:
        frames, objects, masks, counted and failed (counts; what is no number failed); lowest_iou
        among the masks that count and lowest_cosine, None where there is none or one is no number;
        signs, how many occlusion logits have the wrong sign; seen and hidden, on how many rows
        upstream sees the object.
    """
    seen = sum(row["expected_occlusion"] > 0 for row in rows)
    counted = [row for row in rows if row["counted"]]
    return {
        "frames": len({row["frame"] for row in rows}),
        "objects": len({row["object"] for row in rows}),
        "masks": len(rows),
        "counted": len(counted),
        "failed": sum(not is_close(row) for row in rows),
        "lowest_iou": _lowest(row["iou"] for row in counted),
        "lowest_cosine": _lowest(row["pointer_cosine"] for row in rows),
        "signs": sum(not same_sign(row) for row in rows),
        "seen": seen,
        "hidden": len(rows) - seen,
    }


def plot_loop(rows: Sequence[LoopRow]) -> dict[str, Any]:
    """Draw overlap, occlusion and pointers over the frames, a line for each object, in SVG units.

    An axis that ends at 1 begins at the lowest value that counts; what lies below or is no number
    stands at its foot.

    Returns:
        width, height and left and right of the axes; panels with name, top, bottom, ticks (y,
        label) and lines (colour, points, dots); frames, the ticks along the foot (x, label);
        objects (number, colour, x, y).
    """
    frames = sorted({row["frame"] for row in rows})
    numbers = sorted({row["object"] for row in rows})
    first, span = frames[0], max(1, frames[-1] - frames[0])

    def across(frame: int) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (frame - first) / span, 1)

    logits = [value for row in rows for value in _logits(row)]
    panels = [
        _panel(
            "mask IoU",
            rows,
            lambda row: row["iou"],
            (_floor(0.999, (row["iou"] for row in rows if row["counted"])), 1.0),
        ),
        _panel(
            "occlusion logit",
            rows,
            lambda row: row["occlusion"],
            (min(0.0, *logits), max(0.0, *logits)),
            lambda row: row["expected_occlusion"],
        ),
        _panel(
            "pointer cosine",
            rows,
            lambda row: row["pointer_cosine"],
            (_floor(0.9999, (row["pointer_cosine"] for row in rows)), 1.0),
        ),
    ]
    drawn = [
        _draw(panel, numbers, across, _TOP + number * (_HEIGHT + _GAP))
        for number, panel in enumerate(panels)
    ]
    bottom = drawn[-1]["bottom"]
    step = max(1, math.ceil((span + 1) / _MOST_TICKS))
    return {
        "width": _RIGHT + 20,
        "height": bottom + 40 + 16 * ((len(numbers) - 1) // _NAMES_IN_LINE),
        "left": _LEFT,
        "right": _RIGHT,
        "panels": drawn,
        "frames": [(across(frame), str(frame)) for frame in range(first, frames[-1] + 1, step)],
        "foot": bottom + 16,
        "objects": [
            {
                "number": number,
                "colour": place % COLOURS,
                "x": _LEFT + _NAME_WIDTH * (place % _NAMES_IN_LINE),
                "y": bottom + 36 + 16 * (place // _NAMES_IN_LINE),
            }
            for place, number in enumerate(numbers)
        ],
    }


class _Panel(TypedDict):
    name: str
    rows: Sequence[LoopRow]
    value: Callable[[LoopRow], float | None]
    expected: Callable[[LoopRow], float | None] | None
    bounds: tuple[float, float]


def _panel(
    name: str,
    rows: Sequence[LoopRow],
    value: Callable[[LoopRow], float | None],
    bounds: tuple[float, float],
    expected: Callable[[LoopRow], float | None] | None = None,
) -> _Panel:
    return {"name": name, "rows": rows, "value": value, "expected": expected, "bounds": bounds}


def _draw(
    panel: _Panel, numbers: Sequence[int], across: Callable[[int], float], top: int
) -> dict[str, Any]:
    low, high = panel["bounds"]
    bottom = top + _HEIGHT

    def down(value: float | None) -> float:
        if not is_number(value):
            return bottom
        share = (min(max(value, low), high) - low) / ((high - low) or 1.0)
        return round(bottom - _HEIGHT * share, 1)

    lines = []
    for place, number in enumerate(numbers):
        mine = sorted(
            (row for row in panel["rows"] if row["object"] == number), key=lambda row: row["frame"]
        )
        expected = panel["expected"]
        dots = [
            {
                "x": across(row["frame"]),
                "y": down(panel["value"](row)),
                "faint": panel["name"] == "mask IoU" and not row["counted"],
                "bad": _is_bad(panel["name"], row),
                "title": f"object {number}, frame {row['frame']}: {_say(panel['value'](row))}"
                + ("" if expected is None else f", upstream {_say(expected(row))}"),
            }
            for row in mine
        ]
        rings = (
            []
            if expected is None
            else [(across(row["frame"]), down(expected(row))) for row in mine]
        )
        points = " ".join(f"{dot['x']},{dot['y']}" for dot in dots)
        lines.append({"colour": place % COLOURS, "points": points, "dots": dots, "rings": rings})
    ticks = sorted({low, high, *([0.0] if low < 0 < high else [])})
    return {
        "name": panel["name"],
        "top": top,
        "bottom": bottom,
        "ticks": [(down(value), _say(value)) for value in ticks],
        "lines": lines,
    }


def _is_bad(name: str, row: LoopRow) -> bool:
    if name == "occlusion logit":
        return not same_sign(row)
    return not is_close(row)


def _logits(row: LoopRow) -> list[float]:
    values = (row["occlusion"], row["expected_occlusion"])
    return [value for value in values if is_number(value)]


def _floor(highest: float, values: Iterable[float | None]) -> float:
    """Return where an axis up to 1 begins: below all values, and at `highest` at most."""
    lowest = min([highest, *(value for value in values if is_number(value))])
    return max(-1.0, lowest)


def _lowest(values: Iterable[float | None]) -> float | None:
    lowest = math.inf
    for value in values:
        if not is_number(value):
            return None
        lowest = min(lowest, value)
    return None if lowest == math.inf else lowest


def _say(value: float | None) -> str:
    if not is_number(value):
        return "not a number"
    return f"{value:.6f}" if 0.9 < value < 1 else f"{value:.4g}"


def is_number(value: float | None) -> TypeGuard[float]:
    """Return whether it is a finite number; JSON has a very large one for what is infinite."""
    return value is not None and math.isfinite(value) and abs(value) < 1e300
