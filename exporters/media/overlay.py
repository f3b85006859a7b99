"""Draws what was segmented: the photograph with its masks and prompts.

Kept apart from `exporters.media.pictures` so that a change of looks rebuilds no reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from exporters.media.sheet import INK, WHITE, Caption, Colour, draw_sheet

_SHORTEST, _LONGEST = 768, 2048
_TINTS: Final[tuple[Colour, ...]] = (
    (32, 128, 255),
    (255, 176, 0),
    (0, 190, 150),
    (220, 60, 140),
    (130, 96, 255),
)
_MORE_TINTS: Final[tuple[Colour, ...]] = (
    (240, 96, 48),
    (120, 200, 40),
    (0, 160, 224),
    (200, 80, 224),
    (255, 216, 64),
    (64, 112, 160),
    (160, 96, 48),
    (96, 224, 208),
    (255, 144, 160),
    (72, 160, 72),
    (168, 168, 255),
    (176, 32, 64),
    (128, 128, 0),
    (0, 96, 128),
    (208, 176, 144),
)
_LABELS: Final[dict[int, Colour]] = {1: (24, 150, 78), 0: (214, 40, 40)}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One mask and the prompts that led to it.

    Attributes:
        mask: bool [h, w], the whole picture at any resolution.
        points: x, y in the picture's pixels, and a label: 1 on the object, 0 off it.
        box: x0, y0, x1, y1 in the picture's pixels.
        caption: One line under the picture.
        number: Of a tracked object, from 1: it is written on the mask and decides its tint, so
            that an object looks the same on every frame. Else the place among what is drawn does.
    """

    mask: NDArray[np.bool_]
    points: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    caption: str = ""
    number: int | None = None


def canvas_size(height: int, width: int) -> tuple[int, int]:
    """Return (height, width) at which a picture is drawn: its longer side is 768 to 2048 pixels."""
    longer = max(height, width)
    wanted = min(max(longer, _SHORTEST), _LONGEST)
    return max(1, round(height * wanted / longer)), max(1, round(width * wanted / longer))


def enlarge(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture, uint8 [H, W, 3], at the size at which it is drawn, `canvas_size(H, W)`."""
    height, width = canvas_size(*picture.shape[:2])
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
    return np.array(resized, dtype=np.uint8)


def draw_overlay(
    picture: NDArray[np.uint8], drawn: Sequence[Drawn], *, banner: str = ""
) -> NDArray[np.uint8]:
    """Draw the masks as `draw_masks` does, with captions below and a banner above.

    Args:
        picture: uint8 [H, W, 3].
        drawn: What to draw; each gets a tint of its own.
        banner: A warning, set in white on red above the picture.

    Returns:
        uint8 [h, w, 3]; the picture itself takes `canvas_size(H, W)` of it.
    """
    return draw_sheet(draw_masks(picture, drawn), caption_masks(drawn), banner=banner)


def draw_masks(picture: NDArray[np.uint8], drawn: Sequence[Drawn]) -> NDArray[np.uint8]:
    """Draw masks as tints with an outline, and prompts on top.

    Args:
        picture: uint8 [H, W, 3].
        drawn: What to draw; each gets a tint of its own.

    Returns:
        uint8 [h, w, 3] of `canvas_size(H, W)`.
    """
    canvas = Image.fromarray(enlarge(picture))
    width, height = canvas.size
    scale = (width / picture.shape[1], height / picture.shape[0])
    line = max(2, round(max(height, width) / 400))
    for place, one in enumerate(drawn):
        canvas = _tint(canvas, one.mask, _tint_of(one, place), line)
    for place, one in enumerate(drawn):
        if one.box is not None:
            _box(canvas, one.box, scale, _tint_of(one, place), line)
        for x, y, label in one.points:
            _point(canvas, (x * scale[0], y * scale[1]), _LABELS[label], 4 * line)
        if one.number is not None and one.mask.any():
            _number(canvas, one.mask, one.number, 12 * line)
    return np.array(canvas, dtype=np.uint8)


def caption_masks(drawn: Sequence[Drawn]) -> list[Caption]:
    """Return the captions of what is drawn, each with its mask's tint."""
    return [
        Caption(text=one.caption, tint=_TINTS[place % len(_TINTS)])
        for place, one in enumerate(drawn)
        if one.caption
    ]


def object_tint(number: int) -> Colour:
    """Return the tint of a tracked object; numbers count from 1, and neighbours differ."""
    tints = (*_TINTS, *_MORE_TINTS)
    return tints[(number - 1) % len(tints)]


def _tint_of(one: Drawn, place: int) -> Colour:
    return _TINTS[place % len(_TINTS)] if one.number is None else object_tint(one.number)


def _tint(canvas: Image.Image, mask: NDArray[np.bool_], colour: Colour, line: int) -> Image.Image:
    """Lay a colour over the mask, and a light line along its edge."""
    flat = Image.fromarray(mask.astype(np.uint8) * 255)
    smooth = flat.resize(canvas.size, Image.Resampling.BILINEAR)
    smooth = smooth.filter(ImageFilter.GaussianBlur(line * 0.75))
    inside = np.asarray(smooth, dtype=np.float32)[..., np.newaxis] / np.float32(255)
    edge = np.clip(1.9 - np.abs(inside - 0.5) * 6, 0, 1)
    pixels = np.asarray(canvas, dtype=np.float32)
    tinted = pixels + (np.array(colour, np.float32) - pixels) * (
        np.clip(inside * 2 - 0.5, 0, 1) * 0.4
    )
    lined = tinted + (np.array(_brighten(colour), np.float32) - tinted) * edge
    return Image.fromarray(np.clip(lined + 0.5, 0, 255).astype(np.uint8))


def _brighten(colour: Colour) -> Colour:
    red, green, blue = (round(value * 0.35 + 255 * 0.65) for value in colour)
    return red, green, blue


def _box(
    canvas: Image.Image,
    box: tuple[float, float, float, float],
    scale: tuple[float, float],
    colour: Colour,
    line: int,
) -> None:
    corners = [
        min(max(round(value * scale[axis % 2]), 0), canvas.size[axis % 2] - 1)
        for axis, value in enumerate(box)
    ]
    pen = ImageDraw.Draw(canvas)
    pen.rectangle(corners, outline=INK, width=2 * line)
    inner = [corners[0] + line // 2, corners[1] + line // 2]
    inner += [max(corners[2] - line // 2, inner[0]), max(corners[3] - line // 2, inner[1])]
    pen.rectangle(inner, outline=_brighten(colour), width=line)


def _point(canvas: Image.Image, centre: tuple[float, float], colour: Colour, radius: int) -> None:
    """Draw a disc with a white ring and a plus or a minus, drawn large and shrunk for smooth
    edges.
    """
    finer = 4
    side = 2 * (radius + 3) * finer
    stamp = Image.new("RGBA", (side, side), (*INK, 0))
    pen = ImageDraw.Draw(stamp)
    middle = side / 2

    def disc(reach: float, fill: tuple[int, ...]) -> None:
        pen.ellipse((middle - reach, middle - reach, middle + reach, middle + reach), fill=fill)

    disc((radius + 2) * finer, (*INK, 110))
    disc(radius * finer, (*WHITE, 255))
    disc(radius * 0.76 * finer, (*colour, 255))
    arm, half = radius * 0.42 * finer, radius * 0.1 * finer
    pen.rectangle((middle - arm, middle - half, middle + arm, middle + half), fill=WHITE)
    if colour == _LABELS[1]:
        pen.rectangle((middle - half, middle - arm, middle + half, middle + arm), fill=WHITE)
    small = stamp.resize((side // finer, side // finer), Image.Resampling.BOX)
    corner = (round(centre[0] - small.width / 2), round(centre[1] - small.height / 2))
    canvas.paste(small, corner, small)


def _number(canvas: Image.Image, mask: NDArray[np.bool_], number: int, size: int) -> None:
    """Write an object's number in its mask: where the middle of its rows is."""
    row = round(float(np.median(np.nonzero(mask.any(axis=1))[0])))
    inside = np.nonzero(mask[row] if mask[row].any() else mask.any(axis=0))[0]
    centre = (
        (float(np.median(inside)) + 0.5) * canvas.width / mask.shape[1],
        (row + 0.5) * canvas.height / mask.shape[0],
    )
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size)
    pen.text(
        centre,
        str(number),
        fill=WHITE,
        font=font,
        anchor="mm",
        stroke_width=max(1, size // 8),
        stroke_fill=INK,
    )
