"""Errors by layer as one SVG that stands alone: two lines over the layers, logarithmic."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Protocol

_WIDTH, _HEIGHT = 760, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 34, 46
_STYLE = """
svg { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --ours: #b4451f; --other: #8a8f98;
      font: 13px system-ui, sans-serif; background: var(--paper); }
@media (prefers-color-scheme: dark) { svg { --ink: #eee; --paper: #161616; --ours: #e8794f; } }
text { fill: var(--ink); } .axis { stroke: var(--ink); stroke-opacity: .18; }
path { fill: none; stroke-width: 1.5; } .ours { stroke: var(--ours); fill: var(--ours); }
.other { stroke: var(--other); fill: var(--other); } path.ours, path.other { fill: none; }
.bare { fill: var(--paper); }
"""


class Layer(Protocol):
    """What is drawn of a layer."""

    @property
    def name(self) -> str: ...
    @property
    def errors(self) -> Mapping[str, float]: ...
    @property
    def quantized(self) -> Sequence[str]: ...


def draw_layers(layers: Sequence[Layer], theirs: str, ours: str) -> str:
    """Return the plot: a dot for each layer and side, hollow where that side leaves the layer in
    float32.

    Layers are in the graph's order, from left to right; each dot says its layer when pointed at.

    Args:
        layers: With errors of both sides.
        theirs: The side drawn in grey.
        ours: The side that is brought out.
    """
    values = [one.errors[side] for one in layers for side in (theirs, ours)]
    positive = [value for value in values if value > 0]
    lowest, highest = (
        (math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive))))
        if positive
        else (-1, 0)
    )
    highest = max(highest, lowest + 1)
    height, width = _HEIGHT - _TOP - _BOTTOM, _WIDTH - _LEFT - _RIGHT

    def across(index: int) -> float:
        return _LEFT + width * (index + 0.5) / max(1, len(layers))

    def down(value: float) -> float:
        exponent = max(lowest, math.log10(value)) if value > 0 else lowest
        return _TOP + height * (highest - exponent) / (highest - lowest)

    parts = [
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{down(10.0**one):.1f}" '
        f'y2="{down(10.0**one):.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{down(10.0**one) + 4:.1f}" text-anchor="end">{10.0**one:g}'
        "</text>"
        for one in range(lowest, highest + 1)
    ]
    for kind, side in (("other", theirs), ("ours", ours)):
        points = [(across(index), down(one.errors[side])) for index, one in enumerate(layers)]
        line = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<path class="{kind}" d="M{line}"/>' if points else "")
        parts += [
            f'<circle class="{kind}{"" if side in one.quantized else " bare"}" cx="{x:.1f}" '
            f'cy="{y:.1f}" r="3"><title>{escape(one.name)}: {one.errors[side]:.4f}</title></circle>'
            for one, (x, y) in zip(layers, points, strict=True)
        ]
    for place, (kind, side) in enumerate((("ours", ours), ("other", theirs))):
        x = _LEFT + 190 * place
        parts.append(
            f'<rect class="{kind}" x="{x}" y="8" width="12" height="12"/>'
            f'<text x="{x + 18}" y="18">{escape(side)}</text>'
        )
    parts.append(
        f'<text x="{_LEFT}" y="{_HEIGHT - 22}">{len(layers)} linear layers, in the graph\'s order'
        "</text>"
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">relative L2 error of what each computes, bias '
        "included; hollow: not quantized</text>"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="error by layer"><style>{_STYLE}</style>{"".join(parts)}</svg>\n'
    )
