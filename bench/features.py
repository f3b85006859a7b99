"""What bench.dinov2 found: sides beside each other, as a table, JSON and a page of bars."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench.chart import Bar, Chart, write_page
from bench.comparison import text_of
from bench.measured import Promise, Side, compare_bars, median_ratio

LATENCY, STRETCH = 1.05, 0.9
_SMALLEST_SHARE = 0.01
_OTHERS = "all others"


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What ONNX Runtime spends in one operator during one run of a graph.

    Attributes:
        products: How many multiplications its matrix products consist of.
    """

    seconds: float
    nodes: int
    products: int = 0

    def text(self, total: float) -> str:
        """Return time, and share of a total."""
        return f"{self.seconds * 1000:.1f} ms, {self.seconds / total:.1%}" if self.nodes else "-"

    @property
    def speed(self) -> str:
        """How fast its matrix products are; nothing for what is none."""
        return f", {self.products / self.seconds / 1e9:.0f} GMAC/s" if self.products else ""


Profile = Mapping[str, Operator]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole comparison.

    Attributes:
        plain: The faster of the graphs that torch.onnx.export gives.
        slower: The other ones.
        eager: Upstream in PyTorch.
        nodes: Of our graph and of the plain one, as they are in their files, by side.
        profiles: Where the time of those two goes, by side.
        differences: How far each graph's output is from PyTorch's, relative to its largest value.
        machine: What it was measured on, for people.
    """

    target: str
    rounds: int
    threads: int
    ours: Side
    plain: Side
    slower: Sequence[Side]
    eager: Side
    nodes: Mapping[str, int]
    profiles: Mapping[str, Profile]
    differences: Mapping[str, float]
    machine: Mapping[str, str]

    @property
    def sides(self) -> tuple[Side, ...]:
        """All of them, ours first."""
        return (self.ours, self.plain, *self.slower, self.eager)

    def share_of_time(self, other: Side) -> float:
        """Return the median over the rounds of ours / other."""
        return median_ratio(self.ours.run_seconds, other.run_seconds)

    def share_of_memory(self, other: Side) -> float:
        """Return the median over the rounds of ours / other."""
        return median_ratio(self.ours.peak_bytes, other.peak_bytes)

    @property
    def promise(self) -> Promise:
        """What is promised."""
        share = self.share_of_time(self.plain)
        return Promise(name="share of its time", value=share, bound=LATENCY, unit="x")

    @property
    def stretch(self) -> str:
        """What was hoped for, and whether it came true."""
        reached = self.promise.value <= STRETCH
        return f"hoped for {STRETCH:g}x: {'reached' if reached else 'not reached'}"

    @property
    def ok(self) -> bool:
        """Whether what is promised holds."""
        return self.promise.ok

    def operators(self) -> list[tuple[str, tuple[Operator, Operator]]]:
        """Return the operators of our graph and of the plain one, by time; those that take little
        as one.
        """
        ours, plain = (shorten(self.profiles[one.name]) for one in (self.ours, self.plain))
        nothing = Operator(seconds=0.0, nodes=0)
        found = [
            (name, (ours.get(name, nothing), plain.get(name, nothing)))
            for name in dict.fromkeys([*ours, *plain])
        ]

        def place(one: tuple[str, tuple[Operator, Operator]]) -> tuple[bool, float]:
            name, pair = one
            return name == _OTHERS, -max(operator.seconds for operator in pair)

        return sorted(found, key=place)

    def document(self) -> dict[str, object]:
        """Return all that was measured, as JSON."""
        return {
            **asdict(self),
            "share_of_time": {one.name: self.share_of_time(one) for one in self.sides[1:]},
            "promise": {**asdict(self.promise), "ok": self.ok},
            "stretch": STRETCH,
            "ok": self.ok,
        }


def shorten(profile: Profile) -> dict[str, Operator]:
    """Return a profile in which operators of less than a hundredth of the time are one."""
    total = sum(one.seconds for one in profile.values())
    kept = {name: one for name, one in profile.items() if one.seconds >= _SMALLEST_SHARE * total}
    rest = [one for name, one in profile.items() if name not in kept]
    if rest:
        kept[_OTHERS] = Operator(
            seconds=sum(one.seconds for one in rest),
            nodes=sum(one.nodes for one in rest),
            products=sum(one.products for one in rest),
        )
    return kept


def table(report: Report) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return titles and rows for the terminal."""
    sides = report.sides
    graphs = [one for one in sides if one.file_bytes is not None]

    def row(name: str, *cells: str, promised: str = "-") -> tuple[str, ...]:
        return (name, *cells, *("-" for _ in range(len(sides) - len(cells))), promised)

    shares = (f"{report.share_of_time(one):.3f}x" for one in sides[1:])
    memory = (f"{report.share_of_memory(one):.2f}x" for one in sides[1:])
    loads = (text_of(median(one.load_seconds), "s") for one in graphs)
    rows = [
        row("latency", *(text_of(median(one.run_seconds), "s") for one in sides)),
        row(report.promise.name, "-", *shares, promised=report.promise.text),
        row("peak memory", *(text_of(median(one.peak_bytes), "bytes") for one in sides)),
        row("share of its memory", "-", *memory),
        row("session load", *loads),
        row("files", *(text_of(one.file_bytes or 0, "bytes") for one in graphs)),
        row("nodes", *(str(report.nodes[one.name]) for one in sides[:2])),
        row("from PyTorch", *(f"{report.differences[one.name]:.1e}" for one in graphs)),
    ]
    totals = [_total(report.profiles[one.name]) for one in (report.ours, report.plain)]
    rows += [
        row(
            f"in {name}",
            *(one.text(total) + one.speed for one, total in zip(pair, totals, strict=True)),
        )
        for name, pair in report.operators()
    ]
    return ("", *(one.name for one in sides), f"promised; {report.stretch}"), rows


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write dinov2.json and dinov2.html into a folder and return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "dinov2.json"
    data.write_text(json.dumps(report.document(), indent=1) + "\n", encoding="utf-8")
    ours, plain = report.ours.name, report.plain.name
    chart = partial(compare_bars, ours=ours)

    promise = report.promise
    latency = {one.name: median(one.run_seconds) for one in report.sides}
    peak = {one.name: median(one.peak_bytes) for one in report.sides}
    loads = {one.name: median(one.load_seconds) for one in report.sides if one.load_seconds}
    charts = [
        chart(
            f"latency: {promise.value:.3f}x of {plain}'s ({promise.text}; {report.stretch})",
            latency,
            "s",
            latency[plain] * LATENCY,
        ),
        chart("peak memory", peak, "bytes"),
        chart("session load", loads, "s"),
        _draw_operators(report),
    ]
    worst = max(report.differences.values())
    page = write_page(
        folder / "dinov2.html",
        title=f"{report.target} beside a plain export",
        lead="Shorter is better; the dashed line is what modelkiln promises at most.",
        charts=charts,
        facts=[
            (
                "latency, memory",
                f"median of {report.rounds} rounds in turns, {report.threads} threads, one picture;"
                " each side in a process of its own, whose peak it is",
            ),
            ("ratios", "median over the rounds"),
            ("plain export", "torch.onnx.export of timm's network; the faster opset counts"),
            (
                "by operator",
                "ONNX Runtime's own profile, in processes apart; products with weights are the"
                " linear layers', those in attention are of queries, keys and values",
            ),
            ("outputs apart", f"{worst:.1e} of the largest value, from PyTorch's"),
            ("runtimes", ", ".join(dict.fromkeys(one.runtime for one in report.sides))),
            *report.machine.items(),
        ],
    )
    return data, page


def _draw_operators(report: Report) -> Chart:
    pair = (report.ours, report.plain)
    totals = {one.name: _total(report.profiles[one.name]) for one in pair}
    bars = [
        Bar(
            label=name if side is report.ours else "",
            value=operator.seconds,
            text=operator.text(totals[side.name]),
            ours=side is report.ours,
        )
        for name, operators in report.operators()
        for side, operator in zip(pair, operators, strict=True)
    ]
    return Chart(title=f"by operator: {report.ours.name}, and below {report.plain.name}", bars=bars)


def _total(profile: Profile) -> float:
    return sum(one.seconds for one in profile.values())
