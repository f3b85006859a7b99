"""What bench.tracker found: three sides beside each other, as a table, JSON and a page of bars."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench.chart import Chart, write_page
from bench.comparison import text_of
from bench.measured import Promise, Side, compare_bars, median_ratio
from bench.process import Usage

FRAMES, POINTERS = 7, 16
SPEED, MEMORY, FILE_BYTES = 3.0, 0.4, 29e6
EXPORT_SECONDS, EXPORT_BYTES = 60.0, 5e9


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole comparison.

    Attributes:
        public: The graph with the properties of the public exporter's.
        eager: Upstream in PyTorch.
        export: Of all four graphs, checkpoint on disk to graphs on disk.
        facts: What was counted in the public side's graph.
        differences: How far each graph's output is from PyTorch's, relative to its largest value.
        machine: What it was measured on, for people.
    """

    model: str
    rounds: int
    threads: int
    ours: Side
    public: Side
    eager: Side
    export: Sequence[Usage]
    facts: Mapping[str, int]
    differences: Mapping[str, float]
    machine: Mapping[str, str]

    def times_faster(self, other: Side) -> float:
        """Return the median over the rounds of other / ours: what slows both of a round down
        cancels.
        """
        return median_ratio(other.run_seconds, self.ours.run_seconds)

    def share_of_memory(self, other: Side) -> float:
        """Return the median over the rounds of ours / other."""
        return median_ratio(self.ours.peak_bytes, other.peak_bytes)

    def promises(self) -> dict[str, Promise]:
        """Return all that is promised."""
        found = [
            Promise(
                name="times as fast",
                value=self.times_faster(self.public),
                bound=SPEED,
                unit="x",
                at_least=True,
            ),
            Promise(
                name="share of its memory",
                value=self.share_of_memory(self.public),
                bound=MEMORY,
                unit="x",
            ),
            Promise(name="file", value=self.ours.file_bytes or 0, bound=FILE_BYTES, unit="bytes"),
            Promise(
                name="export of four graphs",
                value=median(one.wall_seconds for one in self.export),
                bound=EXPORT_SECONDS,
                unit="s",
            ),
            Promise(
                name="export, peak memory",
                value=median(one.peak_bytes for one in self.export),
                bound=EXPORT_BYTES,
                unit="bytes",
            ),
        ]
        return {one.name: one for one in found}

    @property
    def ok(self) -> bool:
        """Whether all that is promised holds."""
        return all(one.ok for one in self.promises().values())

    def document(self) -> dict[str, object]:
        """Return all that was measured, as JSON."""
        return {
            **asdict(self),
            "frames": FRAMES,
            "pointers": POINTERS,
            "times_faster": {one.name: self.times_faster(one) for one in (self.public, self.eager)},
            "promises": [{**asdict(one), "ok": one.ok} for one in self.promises().values()],
            "ok": self.ok,
        }


def table(report: Report) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return titles and rows for the terminal."""
    sides = (report.ours, report.public, report.eager)
    others = sides[1:]
    promises = report.promises()

    def row(name: str, *cells: str) -> tuple[str, ...]:
        promised = promises[name].text if name in promises else "-"
        return (name, *cells, *("-" for _ in range(3 - len(cells))), promised)

    def alone(name: str) -> tuple[str, ...]:
        return row(name, text_of(promises[name].value, promises[name].unit))

    loads = (text_of(median(one.load_seconds), "s") for one in sides if one.load_seconds)
    files = (text_of(one.file_bytes, "bytes") for one in sides if one.file_bytes is not None)
    rows = [
        row("latency", *(text_of(median(one.run_seconds), "s") for one in sides)),
        row("times as fast", "-", *(f"{report.times_faster(one):.2f}x" for one in others)),
        row("peak memory", *(text_of(median(one.peak_bytes), "bytes") for one in sides)),
        row("share of its memory", "-", *(f"{report.share_of_memory(one):.2f}x" for one in others)),
        row("session load", *loads),
        row("file", *files),
        row("from PyTorch", *(f"{report.differences[one.name]:.1e}" for one in sides[:2])),
        alone("export of four graphs"),
        alone("export, peak memory"),
    ]
    return ("", *(one.name for one in sides), "promised"), rows


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write tracker.json and tracker.html into a folder and return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "tracker.json"
    data.write_text(json.dumps(report.document(), indent=1) + "\n", encoding="utf-8")
    sides = (report.ours, report.public, report.eager)
    promises = report.promises()
    speed, memory = promises["times as fast"], promises["share of its memory"]
    latency = {one.name: median(one.run_seconds) for one in sides}
    peak = {one.name: median(one.peak_bytes) for one in sides}
    files = {one.name: one.file_bytes for one in sides if one.file_bytes is not None}
    loads = {one.name: median(one.load_seconds) for one in sides if one.load_seconds}
    ours, public = report.ours.name, report.public.name
    chart = partial(compare_bars, ours=ours)

    def alone(name: str) -> Chart:
        one = promises[name]
        return chart(f"{name} ({one.text})", {ours: one.value}, one.unit, one.bound)

    file = promises["file"]
    charts = [
        chart(
            f"memory attention, latency: {speed.value:.2f} times as fast ({speed.text})",
            latency,
            "s",
            latency[public] / SPEED,
        ),
        chart(
            f"peak memory: {memory.value:.2f}x ({memory.text})",
            peak,
            "bytes",
            peak[public] * MEMORY,
        ),
        chart("session load", loads, "s"),
        chart(f"file ({file.text})", files, file.unit, file.bound),
        alone("export of four graphs"),
        alone("export, peak memory"),
    ]
    facts = report.facts
    worst = max(report.differences.values())
    page = write_page(
        folder / "tracker.html",
        title=f"{report.model}: memory attention of the tracker",
        lead="Shorter is better; the dashed line is what modelkiln promises at most.",
        charts=charts,
        facts=[
            ("input", f"{FRAMES} frames of memory, {POINTERS} pointers, one object"),
            (
                "latency, memory",
                f"median of {report.rounds} rounds in turns, {report.threads} threads; each side"
                " in a process of its own, the second run of each, the process's peak",
            ),
            ("ratios", "median over the rounds"),
            ("export", "checkpoint on disk to the four graphs on disk; peak of the process tree"),
            (
                public,
                "a graph of our own, made after what is known of NVIDIA's:"
                f" {facts['nodes']} nodes, {facts['tables']} tables of"
                f" {facts['table_bytes'] / 1e6:.1f} MB, {facts['ScatterND']} ScatterND,"
                f" {facts['Expand']} Expand",
            ),
            ("outputs apart", f"{worst:.1e} of the largest value, from PyTorch's"),
            ("runtimes", ", ".join(dict.fromkeys(one.runtime for one in sides))),
            *report.machine.items(),
        ],
    )
    return data, page
