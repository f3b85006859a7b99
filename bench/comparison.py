"""What bench.export found: both sides beside each other, as a table, JSON and a page of bars."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench.chart import Bar, Chart, write_page
from bench.process import Usage

GRAPHS = ("encoder", "decoder")


@dataclass(frozen=True, kw_only=True)
class Side:
    """What was measured of one side; lists hold one value per round.

    Attributes:
        verification_seconds: None where that side does not verify.
        load_seconds: Of a session in ONNX Runtime, by graph.
        run_seconds: Of one run in ONNX Runtime, by graph.
    """

    name: str
    usage: Sequence[Usage]
    verification_seconds: float | None
    bytes: Mapping[str, int]
    load_seconds: Mapping[str, Sequence[float]]
    run_seconds: Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One compared quantity, and the bound that ours has to keep.

    Attributes:
        unit: ``s`` or ``bytes``.
        ours: Median of the rounds.
        theirs: Likewise.
        ratio: Median over the rounds of ours / theirs: what slows both of a round down cancels.
        bound: On the ratio, or on ours alone where `absolute`; None where nothing is promised.
    """

    name: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    bound: float | None = None
    absolute: bool = False

    @property
    def ok(self) -> bool:
        """Whether ours keeps the bound."""
        return self.bound is None or (self.ours if self.absolute else self.ratio) <= self.bound


def compare(
    name: str,
    unit: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    bound: float | None = None,
    absolute: bool = False,
) -> Line:
    """Return a line from the values of both sides, one per round."""
    return Line(
        name=name,
        unit=unit,
        ours=median(ours),
        theirs=median(theirs),
        ratio=median(mine / other for mine, other in zip(ours, theirs, strict=True)),
        bound=bound,
        absolute=absolute,
    )


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole comparison.

    Attributes:
        differences: By graph and output, how far the two sides' results are apart, relative to the
            largest value: they compute the same thing.
        machine: What it was measured on, for people.
    """

    model: str
    rounds: int
    latency_rounds: int
    threads: int
    runtime: str
    ours: Side
    theirs: Side
    differences: Mapping[str, Mapping[str, float]]
    machine: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether all bounds are kept."""
        return all(line.ok for line in self.lines())

    def lines(self) -> list[Line]:
        """Return the compared quantities."""
        mine, other = self.ours, self.theirs

        def used(side: Side, what: str) -> list[float]:
            return [float(getattr(usage, what)) for usage in side.usage]

        def usage(name: str, unit: str, what: str, bound: float | None = None) -> Line:
            return compare(name, unit, used(mine, what), used(other, what), bound=bound)

        lines = [
            usage("wall time", "s", "wall_seconds", 0.5),
            usage("processor time", "s", "cpu_seconds"),
            usage("peak memory", "bytes", "peak_bytes", 0.7),
        ]
        for graph in GRAPHS:
            lines += [
                compare(
                    f"{graph} latency",
                    "s",
                    mine.run_seconds[graph],
                    other.run_seconds[graph],
                    bound=1.05 if graph == "encoder" else None,
                ),
                compare(
                    f"{graph} session load",
                    "s",
                    mine.load_seconds[graph],
                    other.load_seconds[graph],
                    bound=0.3,
                    absolute=True,
                ),
                compare(
                    f"{graph} file", "bytes", [mine.bytes[graph]], [other.bytes[graph]], bound=1.0
                ),
            ]
        return lines

    def document(self) -> dict[str, object]:
        """Return all that was measured, as JSON."""
        lines = [{**asdict(line), "ok": line.ok} for line in self.lines()]
        return {**asdict(self), "lines": lines, "ok": self.ok}


def text_of(value: float, unit: str) -> str:
    """Return a measured value with its unit, three digits."""
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"


def bound_of(line: Line) -> str:
    """Return what was promised for a quantity, in words."""
    if line.bound is None:
        return "-"
    verdict = "ok" if line.ok else "MISSED"
    amount = text_of(line.bound, line.unit) if line.absolute else f"{line.bound:g}x"
    return f"<= {amount} {verdict}"


def table(report: Report) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return titles and rows for the terminal."""
    titles = ("", report.ours.name, report.theirs.name, "ratio", "promised")
    rows = [
        (
            line.name,
            text_of(line.ours, line.unit),
            text_of(line.theirs, line.unit),
            f"{line.ratio:.3f}x",
            bound_of(line),
        )
        for line in report.lines()
    ]
    apart = [_verification(side) for side in (report.ours, report.theirs)]
    return titles, [*rows, ("verification, apart", *apart, "-", "-")]


def _verification(side: Side) -> str:
    if side.verification_seconds is None:
        return "none"
    return text_of(side.verification_seconds, "s")


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write export.json and export.html into a folder and return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "export.json"
    data.write_text(json.dumps(report.document(), indent=1) + "\n", encoding="utf-8")
    charts = [
        Chart(
            title=f"{line.name}: {line.ratio:.2f}x"
            + ("" if line.bound is None else f" ({bound_of(line)})"),
            bars=[
                Bar(
                    label=report.ours.name,
                    value=line.ours,
                    text=text_of(line.ours, line.unit),
                    ours=True,
                ),
                Bar(
                    label=report.theirs.name,
                    value=line.theirs,
                    text=text_of(line.theirs, line.unit),
                ),
            ],
            mark=None
            if line.bound is None
            else (line.bound if line.absolute else line.bound * line.theirs),
        )
        for line in report.lines()
    ]
    worst = max(max(one.values()) for one in report.differences.values())
    page = write_page(
        folder / "export.html",
        title=f"{report.model}: export beside {report.theirs.name}",
        lead="Shorter is better; the dashed line is what modelkiln promises.",
        charts=charts,
        facts=[
            (
                "export",
                f"median of {report.rounds}, in turns; checkpoint on disk to graphs on disk",
            ),
            ("memory", "peak of the process tree"),
            ("ratio", "median over the rounds of one side's value by the other's"),
            (
                "latency",
                f"median of {report.latency_rounds} interleaved rounds, {report.threads} threads",
            ),
            ("runtime", report.runtime),
            *(
                (f"verification by {side.name}", _verification(side))
                for side in (report.ours, report.theirs)
            ),
            ("outputs apart", f"{worst:.1e} of the largest value, at most"),
            *report.machine.items(),
        ],
    )
    return data, page
