"""Bars as SVG on one small page of HTML, with nothing fetched and no script."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_WIDTH, _LABEL, _ROW, _BAR = 760, 220, 30, 18
_STYLE = """
:root { color-scheme: light dark;
        --ink: #1b1b1b; --paper: #fff; --ours: #b4451f; --other: #8a8f98; }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --paper: #161616; --ours: #e8794f; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 800px; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; height: auto; } svg text { font-size: 14px; fill: var(--ink); }
.ours { fill: var(--ours); } .other { fill: var(--other); }
.mark { stroke: var(--ink); stroke-dasharray: 4 3; }
h2 { font-size: 1.05rem; margin: 2rem 0 .3rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1rem .15rem 0; }
"""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar: its length, and the words at both of its ends."""

    label: str
    value: float
    text: str
    ours: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Bars that share a scale starting at zero.

    Attributes:
        mark: Where to draw a dashed line (a bound), if anywhere.
    """

    title: str
    bars: Sequence[Bar]
    mark: float | None = None


def draw_chart(chart: Chart) -> str:
    """Return the chart as one SVG element."""
    longest = max([bar.value for bar in chart.bars] + [chart.mark or 0.0]) or 1.0
    scale = (_WIDTH - _LABEL - 150) / longest
    height = _ROW * len(chart.bars) + 6
    mark = None if chart.mark is None else _LABEL + chart.mark * scale
    rows = []
    for index, bar in enumerate(chart.bars):
        top, length = index * _ROW + 4, max(1.0, bar.value * scale)
        middle, kind = top + _BAR - 4, "ours" if bar.ours else "other"
        end = _LABEL + length
        if mark is not None and end <= mark < end + 80:
            end = mark
        rows.append(
            f'<text x="0" y="{middle}">{escape(bar.label)}</text>'
            f'<rect class="{kind}" x="{_LABEL}" y="{top}" width="{length:.1f}" height="{_BAR}"/>'
            f'<text x="{end + 8:.1f}" y="{middle}">{escape(bar.text)}</text>'
        )
    if mark is not None:
        rows.append(f'<line class="mark" x1="{mark:.1f}" y1="0" x2="{mark:.1f}" y2="{height}"/>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(chart.title)}">'
        f"{''.join(rows)}</svg>"
    )


def write_page(
    path: Path, *, title: str, lead: str, charts: Sequence[Chart], facts: Sequence[tuple[str, str]]
) -> Path:
    """Write the charts on one page, with a table of facts below, and return the path."""
    drawn = "\n".join(f"<h2>{escape(chart.title)}</h2>\n{draw_chart(chart)}" for chart in charts)
    rows = "\n".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>\n'
        f"<h1>{escape(title)}</h1>\n<p>{escape(lead)}</p>\n{drawn}\n"
        f"<h2>How it was measured</h2>\n<table>{rows}</table>\n</html>\n",
        encoding="utf-8",
    )
    return path
