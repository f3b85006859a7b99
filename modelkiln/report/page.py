"""One HTML page that shows what was built, how it was checked and where it came from.

The page is a pure function of plain data; pictures, styles and plots are inside it, and its own
content policy forbids it to load anything.
"""

import base64
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NotRequired, TypedDict, TypeGuard

from modelkiln.report.engines import Engines, say_gpus
from modelkiln.report.float16 import say_kept, say_magnitude
from modelkiln.report.loop import LoopRow, is_close, is_number, plot_loop, same_sign, summarize_loop
from modelkiln.report.quality import Quality, plot_quality, say_decibels
from modelkiln.util.units import human_bytes


class Picture(TypedDict):
    """A picture to show; `png` holds the bytes of a PNG file."""

    title: str
    png: bytes


class ParityRow(TypedDict):
    """One tensor of one case against PyTorch; `relative` is the difference over the reference."""

    graph: str
    case: str
    tensor: str
    max_abs_diff: float | None
    max_abs_reference: float | None
    relative: float | None
    bound: float
    ok: bool


class MaskRow(TypedDict):
    """One mask against upstream's predictor; one that does not count is shown greyed."""

    picture: str
    prompt: str
    iou: float | None
    coverage: float
    counted: bool


class File(TypedDict):
    """A published file."""

    name: str
    bytes: int
    sha256: str


class Timing(TypedDict):
    """How long something took."""

    name: str
    seconds: float


class StepRow(TypedDict):
    """A step of the plan; `status` is a word such as ran or reused."""

    id: str
    key: str
    status: str
    seconds: float | None


class Failure(TypedDict):
    """Why a target was not built, in the three parts of an error."""

    what: str
    why: str
    next: str


class Report(TypedDict):
    """What a page tells about one target; lists may be empty, and empty sections are left out.

    `weights` says in words which weights were used, `warning` what is to be said of them, if
    anything; `provenance` is a list of (name, value). A reduced precision has a `quality` in the
    place of `parity`; `engines` are built, and the page does not call them verified.
    """

    title: str
    target: str
    weights: str
    warning: str
    pictures: Sequence[Picture]
    parity: Sequence[ParityRow]
    masks: Sequence[MaskRow]
    files: Sequence[File]
    timings: Sequence[Timing]
    provenance: Sequence[tuple[str, str]]
    steps: Sequence[StepRow]
    loop: NotRequired[Sequence[LoopRow]]
    quality: NotRequired[Quality | None]
    engines: NotRequired[Engines | None]
    failure: NotRequired[Failure | None]


def render_report(report: Report) -> str:
    """Return the page of one target, as HTML."""
    return _render(report["title"], "", [report])


def render_reports(title: str, note: str, reports: Sequence[Report]) -> str:
    """Return the page of several targets: a table of them all, then a section for each.

    Args:
        title: The page's heading.
        note: A sentence under it; may be empty.
        reports: The targets, in the order of the page.
    """
    return _render(title, note, reports)


def _render(title: str, note: str, reports: Sequence[Report]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("modelkiln.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": human_bytes,
        "seconds": format_seconds,
        "scientific": format_scientific,
        "magnitude": format_magnitude,
        "percent": format_percent,
        "share": format_share,
        "figure": format_figure,
        "decibels": say_decibels,
        "reached": say_magnitude,
        "kept": say_kept,
        "times": format_times,
        "gpus": say_gpus,
        "base64": lambda content: base64.b64encode(content).decode("ascii"),
    }
    page = environment.get_template("report.html.j2").render(
        title=title,
        note=note,
        several=len(reports) != 1,
        targets=[_view(report) for report in reports],
        warnings=sorted({report["warning"] for report in reports} - {""}),
    )
    return page.rstrip() + "\n"


def _view(report: Report) -> dict[str, Any]:
    """Add to a report what the page shows and the data only implies."""
    parity, counted = report["parity"], [one for one in report["masks"] if one["counted"]]
    ious = [one["iou"] for one in counted]
    loop = report.get("loop", [])
    followed = summarize_loop(loop)
    longest = max((one["seconds"] for one in report["timings"]), default=0.0)
    quality = report.get("quality")
    if quality:
        good = not quality["binding"] or all(one["ok"] for one in quality["gates"])
    else:
        good = all(one["ok"] for one in parity) and not followed["failed"] and not followed["signs"]
    return {
        **report,
        "failure": report.get("failure"),
        "ok": report.get("failure") is None and good,
        "quality": quality,
        "engines": report.get("engines"),
        "snr_plot": plot_quality(quality) if quality else None,
        "lowest_snr": _lowest_snr(quality) if quality else None,
        "worst": max(map(_share_of_bound, parity), default=None),
        "failed": sum(not one["ok"] for one in parity),
        "tensors": _by_tensor(parity),
        "plot": plot_parity(parity) if parity else None,
        "loop": [(row, is_close(row) and same_sign(row)) for row in loop],
        "followed": followed,
        "loop_plot": plot_loop(loop) if loop else None,
        "counted": len(counted),
        "lowest_iou": min((-math.inf if one is None else one for one in ious), default=None),
        "total_bytes": sum(one["bytes"] for one in report["files"]),
        "total_seconds": sum(one["seconds"] or 0 for one in report["steps"]),
        "bars": [
            (one, 100 * one["seconds"] / longest if longest else 0) for one in report["timings"]
        ],
    }


def _lowest_snr(quality: Quality) -> float | None:
    """Return the lowest SNR of all outputs; None where nothing differs."""
    ratios = [one["snr_db"] for one in quality["outputs"]]
    return min((one for one in ratios if one is not None), default=None)


def _by_tensor(parity: Sequence[ParityRow]) -> list[dict[str, Any]]:
    """Return one summary for each output of each graph: its worst case and how many there were."""
    summaries = []
    for (graph, tensor), group in groupby(sorted(parity, key=_tensor_of), key=_tensor_of):
        rows = list(group)
        worst = max(rows, key=_share_of_bound)
        summaries.append(
            {
                "graph": graph,
                "tensor": tensor,
                "cases": len(rows),
                "failed": sum(not row["ok"] for row in rows),
                "worst": worst,
            }
        )
    order = list(dict.fromkeys(map(_tensor_of, parity)))
    return sorted(summaries, key=lambda one: order.index((one["graph"], one["tensor"])))


def plot_parity(parity: Sequence[ParityRow]) -> dict[str, Any]:
    """Place every comparison on a logarithmic axis, a line for each tensor, in SVG units.

    Differences of exactly zero stand left of the axis, and what is not a number right of it.

    Returns:
        width, height and bottom; lines with y, name and dots (x, ok, title); ticks with x and
        label; bounds and ends, pairs of an x and a label.
    """
    bounds = sorted({row["bound"] for row in parity})
    scale = bounds + [row["relative"] for row in parity if _is_positive(row["relative"])]
    low, high = math.floor(math.log10(min(scale))) - 1, math.ceil(math.log10(max(scale))) + 1
    first, left, right, last, line = 200, 230, 700, 745, 26

    def place(value: float | None) -> float:
        if value == 0:
            return first
        if not _is_positive(value):
            return last
        return round(left + (right - left) * (math.log10(value) - low) / (high - low), 1)

    lines: list[dict[str, Any]] = []
    for one in _by_tensor(parity):
        rows = [row for row in parity if _tensor_of(row) == (one["graph"], one["tensor"])]
        dots = [
            {
                "x": place(row["relative"]),
                "ok": row["ok"],
                "ring": False,
                "title": f"{row['case']}: {format_scientific(row['relative'])}",
            }
            for row in rows
        ]
        y = 14 + line * len(lines)
        lines.append({"y": y, "name": f"{one['graph']} {one['tensor']}", "dots": dots})
    bottom = 14 + line * len(lines)
    return {
        "width": last + 30,
        "height": bottom + 22,
        "bottom": bottom,
        "lines": lines,
        "bounds": [(place(bound), f"bound {format_scientific(bound)}") for bound in bounds],
        "ends": [
            (x, label)
            for x, label in ((first, "0"), (last, "none"))
            if any(dot["x"] == x for one in lines for dot in one["dots"])
        ],
        "ticks": [
            {"x": place(10.0**power), "label": f"1e{power}"} for power in range(low + 1, high + 1)
        ],
    }


def format_seconds(seconds: float | None) -> str:
    """Format as 12 ms, 3.4 s, 2 min 05 s; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def format_scientific(value: float | None) -> str:
    """Format as 3.1e-6, 0, or "not a number" where there is none."""
    if value is None or math.isnan(value):
        return "not a number"
    if value == 0 or math.isinf(value):
        return "0" if value == 0 else "infinite"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def format_percent(share: float) -> str:
    """Format 0.3125 as 31.3 %."""
    return f"{share * 100:.1f} %"


def format_magnitude(value: float | None) -> str:
    """Format with four digits where that is short, scientific where not: 31.97, 2.1e-5."""
    if value is not None and 0.001 <= abs(value) < 10_000:
        return f"{value:.4g}"
    return format_scientific(value)


def format_figure(value: float | None) -> str:
    """Format with six digits after the point; "not a number" where there is none."""
    return f"{value:.6f}" if is_number(value) else "not a number"


def format_times(ratio: float) -> str:
    """Format as 0.36 x, 1.52 x."""
    return f"{ratio:.2f} x"


def format_share(share: float) -> str:
    """Return what a comparison uses of its bound: 31 %, 140 %, 250 times."""
    if math.isinf(share):
        return "not a number"
    if share >= 9.995:
        return f"{share:.3g} times"
    return "below 1 %" if 0 < share < 0.01 else f"{share * 100:.0f} %"


def _tensor_of(row: ParityRow) -> tuple[str, str]:
    return row["graph"], row["tensor"]


def _share_of_bound(row: ParityRow) -> float:
    """Return how much of its bound a comparison uses up; more than 1 fails."""
    relative = row["relative"]
    if relative is None or not math.isfinite(relative):
        return math.inf
    return relative / row["bound"]


def _is_positive(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value) and value > 0
