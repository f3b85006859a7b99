"""A finished picture on a sheet: a banner above it, captions below.

Kept apart from `exporters.media.pictures` so that a change of looks rebuilds no reference.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour: TypeAlias = tuple[int, int, int]
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

INK: Final[Colour] = (22, 24, 29)
WHITE: Final[Colour] = (255, 255, 255)

_MIN_WIDTH: Final = 480
_PAPER: Final[Colour] = (236, 239, 243)
_ALARM: Final[Colour] = (186, 18, 28)


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A line below a picture, wrapped at words.

    Attributes:
        tint: Of the swatch before it; without one, the text is centred.
    """

    text: str
    tint: Colour | None = None


def random_weights_banner(contract: Mapping[str, Any]) -> str:
    """Return the warning above everything that random weights have made.

    Args:
        contract: A golden contract; its `yields` says what its graphs compute, a mask if nothing.
    """
    return f"random weights: this {contract.get('yields', 'mask')} means nothing"


def draw_sheet(
    canvas: NDArray[np.uint8], captions: Sequence[Caption], *, banner: str = ""
) -> NDArray[np.uint8]:
    """Add a banner above a finished picture and captions below.

    Args:
        canvas: uint8 [h, w, 3]; one that is narrow is set in the middle of a wider sheet.
        captions: In their order.
        banner: A warning, set in white on red above the picture.

    Returns:
        uint8 [h', w', 3].
    """
    picture = Image.fromarray(canvas)
    width = max(picture.width, _MIN_WIDTH)
    size = max(15, round(width / 48))
    parts: list[Image.Image] = []
    if banner:
        parts.append(_strip(banner, width, round(size * 1.25), _ALARM, WHITE, None))
    if picture.width < width:
        matte = Image.new("RGB", (width, picture.height), INK)
        matte.paste(picture, ((width - picture.width) // 2, 0))
        picture = matte
    parts.append(picture)
    parts += [_strip(one.text, width, size, INK, _PAPER, one.tint) for one in captions]
    sheet = Image.new("RGB", (width, sum(part.height for part in parts)), INK)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return np.array(sheet, dtype=np.uint8)


def _strip(
    text: str, width: int, size: int, back: Colour, ink: Colour, swatch: Colour | None
) -> Image.Image:
    """Return text on a band as wide as the sheet, wrapped at words; perhaps after a swatch."""
    font = ImageFont.load_default(size)
    pad = round(size * 0.8)
    indent = pad + (round(size * 1.3) if swatch else 0)
    lines = _wrap(text, font, width - indent - pad)
    step = round(size * 1.35)
    strip = Image.new("RGB", (width, len(lines) * step + pad), back)
    pen = ImageDraw.Draw(strip)
    if swatch:
        top = pad // 2 + (step - size) // 2
        pen.rounded_rectangle((pad, top, pad + size - 1, top + size - 1), size // 5, fill=swatch)
    for row, words in enumerate(lines):
        left = indent if swatch else (width - math.ceil(font.getlength(words))) // 2
        pen.text((left, pad // 2 + row * step + step // 2), words, fill=ink, font=font, anchor="lm")
    return strip


def _wrap(text: str, font: Font, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines or [""]
