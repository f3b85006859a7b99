"""The report of bench.quantize as a table, JSON, a page of bars, and errors by layer as one SVG."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from bench.chart import Bar, Chart, write_page
from bench.comparison import text_of
from bench.layers_plot import draw_layers
from bench.measured import compare_bars
from bench.quantized import (
    BASE,
    DYNAMIC,
    DYNAMIC_SPEED,
    EMBEDDING,
    EQUAL,
    PRESET,
    SEED,
    SHARE_OF_ERROR,
    STATIC_SPEED,
    Error,
    Quantized,
    Report,
)

PLOT = "quantize-layers.svg"

_Row = tuple[str, ...]


def table(report: Report) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return titles and rows for the terminal."""
    promises: dict[str, list[str]] = {}
    for held in report.held():
        promises.setdefault(held.row, []).append(f"{held.side} {held.promise.text}")

    def row(name: str, base: str, cell: Callable[[Quantized], str]) -> _Row:
        kept = "; ".join(promises.pop(name, [])) or "-"
        return (name, base, *(cell(one) for one in report.sides), kept)

    def ours(text: Callable[[Quantized], str]) -> Callable[[Quantized], str]:
        return lambda one: "-" if one.name == SEED else text(one)

    outputs = list(report.side(SEED).errors)
    rows = [
        row("quantizing", "-", lambda one: text_of(one.making.seconds, "s")),
        row("share of its time", "-", ours(lambda one: f"{report.share_of_time(one.name):.2f}x")),
        row("peak memory", "-", lambda one: text_of(one.making.peak_bytes, "bytes")),
        row("pictures", "-", lambda one: str(one.making.pictures)),
        row(
            "peak, most by least",
            "-",
            lambda one: f"{report.growth:.3f}x" if one.name == EQUAL else "-",
        ),
        row(
            "files",
            text_of(report.base.file_bytes or 0, "bytes"),
            lambda one: text_of(one.latency.file_bytes or 0, "bytes"),
        ),
        row(
            "latency",
            text_of(median(report.base.run_seconds), "s"),
            lambda one: text_of(median(one.latency.run_seconds), "s"),
        ),
        row(f"speed over {BASE}", "-", lambda one: f"{report.speed(one.name):.2f}x"),
        row(
            "session load",
            text_of(median(report.base.load_seconds), "s"),
            lambda one: text_of(median(one.latency.load_seconds), "s"),
        ),
        row("integer kernels", "-", _say_kernels),
    ]
    for name in outputs:
        rows.append(row(f"error, {name}", "-", partial(_say_error, name)))
        share = ours(partial(_say_share, report, name))
        rows.append(row(f"share of its error, {name}", "-", share))
    rows += [_variant_row(report, name) for name in report.variants]
    titles = ("", BASE, *(one.name for one in report.sides), f"promised; {report.stretch}")
    return titles, rows


def _say_error(output: str, one: Quantized) -> str:
    return one.errors[output].text


def _say_share(report: Report, output: str, one: Quantized) -> str:
    return f"{report.share_of_error(one.name, output):.2f}x"


def _say_kernels(one: Quantized) -> str:
    return str(one.ran) if one.planned is None else f"{one.ran} of {one.planned}"


def _variant_row(report: Report, name: str) -> _Row:
    """Return what ours is with one thing as in the example, below equal settings."""
    error = report.variants[name][EMBEDDING].relative
    text = f"{error:.4f}, {report.variant_kernels[name]} integer kernels"
    cells = (text if one.name == EQUAL else "-" for one in report.sides)
    return (f"{EMBEDDING} with {name}", "-", *cells, "-")


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write quantize.json, quantize.html and the plot into a folder; return the first two."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "quantize.json"
    data.write_text(json.dumps(report.document(), indent=1) + "\n", encoding="utf-8")
    (folder / PLOT).write_text(draw_layers(report.layers, SEED, EQUAL), encoding="utf-8")
    page = write_page(
        folder / "quantize.html",
        title=f"{report.target}: INT8 beside ModelOpt's with the settings of its example",
        lead="Shorter is better; a dashed line is what modelkiln promises at most.",
        charts=_charts(report),
        facts=[*_facts(report), *report.machine.items()],
    )
    return data, page


def _charts(report: Report) -> list[Chart]:
    sides = report.sides
    chart = partial(compare_bars, ours=PRESET)
    base = median(report.base.run_seconds)
    latency = {BASE: base, **{one.name: median(one.latency.run_seconds) for one in sides}}
    made = {one.name: one.making for one in sides}
    files = {one.name: one.latency.file_bytes or 0 for one in sides}
    seed = report.side(SEED).errors[EMBEDDING]
    errors = {one.name: one.errors[EMBEDDING] for one in sides}
    with_one = {f"with {name}": found[EMBEDDING] for name, found in report.variants.items()}
    return [
        _error_chart(
            f"error of {EMBEDDING}: {report.share_of_error(PRESET, EMBEDDING):.2f}x of {SEED}'s",
            errors,
            seed.relative * SHARE_OF_ERROR,
        ),
        _error_chart(
            "what bought it: ours at equal settings, with one thing as in the example",
            {EQUAL: errors[EQUAL], **with_one, SEED: seed},
        ),
        chart(
            f"latency: {PRESET} {report.speed(PRESET):.2f}x as fast as {BASE}, {DYNAMIC} "
            f"{report.speed(DYNAMIC):.2f}x (promised {STATIC_SPEED:g}x and {DYNAMIC_SPEED:g}x)",
            latency,
            "s",
            base / STATIC_SPEED,
        ),
        chart(
            f"quantizing ({report.stretch})",
            {name: one.seconds for name, one in made.items()},
            "s",
            made[SEED].seconds,
        ),
        chart(
            "peak memory of quantizing",
            {name: one.peak_bytes for name, one in made.items()},
            "bytes",
        ),
        chart("files", {BASE: report.base.file_bytes or 0, **files}, "bytes"),
    ]


def _error_chart(title: str, errors: dict[str, Error], mark: float | None = None) -> Chart:
    bars = [
        Bar(label=name, value=one.relative, text=one.text, ours=name in (EQUAL, PRESET))
        for name, one in errors.items()
    ]
    return Chart(title=title, bars=bars, mark=mark)


def _facts(report: Report) -> list[tuple[str, str]]:
    kept = [one for one in report.held() if one.promise.ok]
    peaks = (f"{count}: {text_of(peak, 'bytes')}" for count, peak in sorted(report.memory.items()))
    cropped = f"; {report.cropped} are crops of them" if report.cropped else ""
    return [
        ("promises", f"{len(kept)} of {len(report.held())} kept"),
        *((f"MISSED: {one.promise.name}", one.promise.text) for one in report.held()
          if not one.promise.ok),
        ("weights", report.weights),
        (
            "calibration",
            f"{report.pictures} of the catalog's pictures by name, and one more for {SEED}, whose "
            f"example takes one too many, in the folder's order{cropped}; the preset has its own "
            "number",
        ),
        ("errors", f"relative L2 over {', '.join(report.held_out)}, which calibrated nothing"),
        ("errors by layer", f"{PLOT}, beside this page"),
        ("quantizing", "once, a process from start to end, imports included"),
        (
            "latency",
            f"median of {report.rounds} rounds in turns, {report.threads} threads, one picture; "
            "each file in a process of its own, onnxruntime's defaults",
        ),
        ("ratios", "median over the rounds"),
        ("our peak, by pictures", ", ".join(peaks)),
        ("runtimes", f"{report.base.runtime}, {report.tools}"),
        ("instructions", report.cpu),
    ]  # fmt: skip
