"""What sides of a bench have in common: their figures, ratios of them, and what was promised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.chart import Bar, Chart
from bench.comparison import text_of

APART = 1e-5


@dataclass(frozen=True, kw_only=True)
class Side:
    """What was measured of one side; lists hold one value per round.

    Attributes:
        load_seconds: Of a session; nothing for PyTorch.
        file_bytes: Of the graph; None for PyTorch.
    """

    name: str
    runtime: str
    run_seconds: Sequence[float]
    peak_bytes: Sequence[int]
    load_seconds: Sequence[float] = ()
    file_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Promise:
    """A quantity of ours, and the bound that it has to keep.

    Attributes:
        unit: ``s``, ``bytes`` or ``x``.
        at_least: Whether the bound is the least that it may be.
    """

    name: str
    value: float
    bound: float
    unit: str
    at_least: bool = False

    @property
    def ok(self) -> bool:
        """Whether it keeps the bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def text(self) -> str:
        """Bound and verdict, in words."""
        amount = f"{self.bound:g}x" if self.unit == "x" else text_of(self.bound, self.unit)
        return f"{'>=' if self.at_least else '<='} {amount} {'ok' if self.ok else 'MISSED'}"


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median over the rounds of above / below: what slows both of a round
    down cancels.
    """
    return median(one / other for one, other in zip(above, below, strict=True))


def compare_bars(
    title: str, values: Mapping[str, float], unit: str, mark: float | None = None, *, ours: str
) -> Chart:
    """Return a chart with a bar for each side, by name; `ours` is the one to bring out."""
    bars = [
        Bar(label=name, value=value, text=text_of(value, unit), ours=name == ours)
        for name, value in values.items()
    ]
    return Chart(title=title, bars=bars, mark=mark)
