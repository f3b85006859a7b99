"""What a report tells of a reduced precision: what it lost, what it gained, and layer by layer."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypedDict

from modelkiln.report.float16 import RangeRow, read_ranges

# float32 has fewer than 800; beyond are the numbers that stand for infinity.
_MOST_DECIBELS: Final = 1000.0


class GateRow(TypedDict):
    """A figure against the least that the format allows; None is an SNR where nothing differs."""

    name: str
    runtime: str
    graph: str
    tensor: str
    value: float | None
    bound: float
    ok: bool


class OutputRow(TypedDict):
    """An output over all photographs, and the photograph on which it fares worst.

    A signal-to-noise ratio is None where nothing differs.
    """

    runtime: str
    graph: str
    tensor: str
    cases: int
    snr_db: float | None
    lowest_snr_db: float | None
    cosine: float
    lowest_cosine: float
    relative: float


class CaseRow(TypedDict):
    """An output on one photograph."""

    graph: str
    tensor: str
    case: str
    snr_db: float | None


class KernelRow(TypedDict):
    """The integer kernels of a graph: how many were planned, and which ran."""

    graph: str
    planned: int
    ran: int
    names: str


class BenefitRow(TypedDict):
    """A graph against float32's: bytes, peak memory, and seconds by runtime; None if unmeasured."""

    graph: str
    bytes: int
    fp32_bytes: int
    peak_bytes: int | None
    fp32_peak_bytes: int | None
    seconds: Sequence[tuple[str, float, float]]


class Benefit(TypedDict):
    """What all graphs gain together; `speed` holds a runtime and how many times as fast it is."""

    size: float
    speed: Sequence[tuple[str, float]]
    pays: bool
    rows: Sequence[BenefitRow]


class LayerRow(TypedDict):
    """A layer that was quantized, with its activation's scale, or the reason why it was not."""

    graph: str
    node: str
    op: str
    scale: float | None
    reason: str


class Quality(TypedDict):
    """A reduced precision; lists may be empty.

    `precision` says in words what the layers are; `binding` is whether a missed gate counts.
    """

    precision: str
    binding: bool
    gates: Sequence[GateRow]
    outputs: Sequence[OutputRow]
    cases: Sequence[CaseRow]
    scores: Mapping[str, Any] | None
    kernels: Sequence[KernelRow]
    benefit: Benefit | None
    layers: Sequence[LayerRow]
    ranges: Sequence[RangeRow]
    base: str


MODES: Mapping[str, str] = {
    "fp16": "FP16",
    "int8": "INT8",
    "int8-dynamic": "INT8, activations as they come",
    "fp8": "FP8",
}


def read_quality(
    checks: Mapping[str, Any], plan: Mapping[str, Any], benefit: Mapping[str, Any]
) -> Quality | None:
    """Return what the documents of a reduced precision say; None for one that replaces nothing.

    Args:
        checks: `verification.json`.
        plan: `quantization.json`; may be empty.
        benefit: What the verification measured; may be empty.
    """
    if "gates" not in checks:
        return None
    summary, base = checks["summary"], checks["fp32"]
    return Quality(
        precision=say_precision(summary),
        binding=checks["binding"],
        gates=checks["gates"],
        outputs=list(_read_outputs(checks["quality"])),
        cases=[
            CaseRow(
                graph=row["graph"], tensor=row["tensor"], case=row["case"], snr_db=row["snr_db"]
            )
            for row in checks["tensors"]
            if row["photograph"]
        ],
        scores=summary.get("scores"),
        kernels=[
            {
                "graph": graph,
                "planned": found["planned"],
                "ran": found["integer"],
                "names": ", ".join(f"{count} {name}" for name, count in found["names"].items()),
            }
            for graph, found in checks["kernels"].items()
        ],
        benefit=_read_benefit(benefit) if benefit else None,
        layers=list(_read_layers(plan)),
        ranges=list(read_ranges(plan)),
        base=f"{base['relative']:.1e} of its scale at most ({base['output'].replace('/', ' ')})",
    )


def say_precision(summary: Mapping[str, Any]) -> str:
    """Say 51 of 51 linears INT8, or FP16 alone where no linear has scales."""
    mode = MODES.get(summary["mode"], str(summary["mode"]))
    linears = summary["linears"]
    if not linears["quantized"]:
        return mode
    return f"{linears['quantized']} of {linears['linears']} linears {mode}"


def say_quality(summary: Mapping[str, Any], benefit: Mapping[str, Any]) -> str:
    """Return what a reduced precision lost and gained, in one line.

    Args:
        summary: The verification's.
        benefit: What it measured; may be empty.
    """
    return "; ".join(_quality_parts(summary, benefit))


def _quality_parts(summary: Mapping[str, Any], benefit: Mapping[str, Any]) -> Iterator[str]:
    yield say_precision(summary)
    lost = []
    if quality := summary["quality"]:
        worst = f"({quality['graph']} {quality['tensor']})"
        lost.append(f"SNR >= {say_decibels(quality['lowest_snr_db'])} {worst}")
    loop = summary.get("loop") or {}
    ious = [one for one in (summary["lowest_iou"], loop.get("lowest_iou")) if one is not None]
    if ious:
        lost.append(f"lowest mask IoU {min(ious):.4f}")
    elif quality:
        lost.append(f"lowest cosine {quality['lowest_cosine']:.6f}")
    lost.append(f"{summary['bytes'] / summary['fp32_bytes']:.2f}x the size")
    lost += [say_speed(runtime, speed) for runtime, speed in benefit.get("speed", {}).items()]
    yield ", ".join(lost)
    if not benefit.get("pays", True):
        yield "does not pay here: neither smaller nor faster than float32"
    if not summary["binding"]:
        missed = f", {len(summary['missed'])} missed" if summary["missed"] else ""
        yield f"gates not binding: random weights{missed}"


def say_speed(runtime: str, speed: float) -> str:
    """Say 1.52x as fast as float32 here; the runtime is named where it is not the CPU."""
    where = "here" if runtime == "cpu" else f"on {runtime}"
    return f"{speed:.2f}x as fast as float32 {where}"


def say_decibels(value: float | None) -> str:
    """Say 31.4 dB; "no noise" where nothing differs, "no signal" where nothing is left."""
    if value is None:
        return "no noise"
    return "no signal" if value < -_MOST_DECIBELS else f"{value:.1f} dB"


def _read_benefit(benefit: Mapping[str, Any]) -> Benefit:
    return Benefit(
        size=benefit["size"],
        speed=list(benefit["speed"].items()),
        pays=benefit["pays"],
        rows=[
            {
                "graph": graph,
                "bytes": one["bytes"],
                "fp32_bytes": one["fp32_bytes"],
                "peak_bytes": one.get("peak_bytes"),
                "fp32_peak_bytes": one.get("fp32_peak_bytes"),
                "seconds": [
                    (runtime, times["fp32"], times["reduced"])
                    for runtime, times in one.get("seconds", {}).items()
                ],
            }
            for graph, one in benefit["graphs"].items()
        ],
    )


def _read_outputs(quality: Mapping[str, Any]) -> Iterator[OutputRow]:
    for runtime, rows in quality.items():
        for row in rows:
            read: Any = {"runtime": runtime, **row}
            yield read


def _read_layers(plan: Mapping[str, Any]) -> Iterator[LayerRow]:
    for graph, one in plan.get("graphs", {}).items():
        for layer in one.get("layers", ()):
            yield LayerRow(
                graph=graph, node=layer["node"], op=layer["op"], scale=layer["scale"], reason=""
            )
        for layer in one.get("left_out", ()):
            yield LayerRow(
                graph=graph, node=layer["node"], op=layer["op"], scale=None, reason=layer["reason"]
            )


def plot_quality(quality: Quality) -> dict[str, Any]:
    """Place the SNR of every output on an axis in decibels, a line for each, in SVG units.

    Small dots are photographs, rings all of them together. What does not differ at all stands right
    of the axis, and what is not a number left of it.

    Returns:
        As `modelkiln.report.page.plot_parity`; a dot is a ring where `ring` is set.
    """
    bounds = sorted({one["bound"] for one in quality["gates"] if one["name"] == "snr_db"})
    missed = {
        (one["graph"], one["tensor"])
        for one in quality["gates"]
        if one["name"] == "snr_db" and one["runtime"] == "cpu" and not one["ok"]
    }
    own = [one for one in quality["outputs"] if one["runtime"] == "cpu"]
    known = [
        value
        for value in (*bounds, *(row["snr_db"] for row in (*own, *quality["cases"])))
        if value is not None and abs(value) < _MOST_DECIBELS
    ]
    low = 10 * math.floor(min(known, default=0) / 10)
    high = 10 * math.ceil((max(known, default=10) + 1) / 10)
    first, left, right, last, line = 200, 230, 660, 745, 26

    def place(value: float | None) -> float:
        if value is None:
            return last
        if not low <= value <= high:
            return first
        return round(left + (right - left) * (value - low) / (high - low), 1)

    lines: list[dict[str, Any]] = []
    for one in own:
        key = (one["graph"], one["tensor"])
        cases = [row for row in quality["cases"] if (row["graph"], row["tensor"]) == key]
        dots = [_dot(place, row["case"], row["snr_db"], True, False) for row in cases]
        dots.append(_dot(place, "all photographs", one["snr_db"], key not in missed, True))
        y = 14 + line * len(lines)
        lines.append({"y": y, "name": f"{one['graph']} {one['tensor']}", "dots": dots})
    bottom = 14 + line * len(lines)
    step = 10 if high - low <= 100 else 20
    return {
        "width": last + 30,
        "height": bottom + 22,
        "bottom": bottom,
        "lines": lines,
        "bounds": [(place(bound), f"gate {bound:g} dB") for bound in bounds],
        "ends": [
            (x, label)
            for x, label in ((first, "no signal"), (last, "no noise"))
            if any(dot["x"] == x for one in lines for dot in one["dots"])
        ],
        "ticks": [
            {"x": place(value), "label": f"{value} dB"} for value in range(low, high + 1, step)
        ],
    }


def _dot(place: Any, title: str, value: float | None, ok: bool, ring: bool) -> dict[str, Any]:
    return {
        "x": place(value),
        "ok": ok,
        "ring": ring,
        "title": f"{title}: {say_decibels(value)}",
    }
