"""The test video: parts of photographs that move over another photograph.

Three things move. The first leaves the picture and returns, the second comes in later, the third
is there throughout. They move smoothly, in as many steps as the video is to have frames.
"""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from exporters.media.pictures import load_picture

HEIGHT: Final = 288
WIDTH: Final = 432
QUALITY: Final = 95

Box = tuple[float, float, float, float]
Place = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Something that moves: an ellipse cut out of a photograph.

    Attributes:
        picture: Which photograph, in the order of their names.
        crop: Left, top, right and bottom in shares of that photograph.
        size: Width and height in shares of the frame.
        path: Its centre in shares of the frame, at a time from 0 to 1.
    """

    picture: int
    crop: Box
    size: Place
    path: Callable[[float], Place]

    def box_at(self, time: float) -> Box:
        """Return x0, y0, x1, y1 around it in pixels of the frame, which may lie outside."""
        x, y = self.path(time)
        width, height = round(self.size[0] * WIDTH), round(self.size[1] * HEIGHT)
        left, top = round(x * WIDTH - width / 2), round(y * HEIGHT - height / 2)
        return left, top, left + width, top + height


def _leave_and_return(time: float) -> Place:
    return 0.3 + 1.0 * abs(math.sin(math.pi * time)), 0.42 + 0.06 * math.sin(2 * math.pi * time)


def _come_in(time: float) -> Place:
    return 0.22 - 2.2 * max(0.0, 0.25 - time) + 0.45 * max(0.0, time - 0.25), 0.7


def _stay(time: float) -> Place:
    return 0.62 + 0.05 * math.cos(2 * math.pi * time), 0.26 + 0.1 * math.sin(2 * math.pi * time)


ACTORS: Final = (
    Actor(picture=0, crop=(0.28, 0.02, 0.6, 0.42), size=(0.26, 0.44), path=_leave_and_return),
    Actor(picture=1, crop=(0.3, 0.2, 0.75, 0.8), size=(0.3, 0.4), path=_come_in),
    Actor(picture=0, crop=(0.05, 0.6, 0.45, 1.0), size=(0.22, 0.33), path=_stay),
)
_BACKGROUND: Final = 2


@dataclass(frozen=True, kw_only=True)
class Video:
    """The video as JPEG files, and what they decode to.

    Attributes:
        files: One JPEG file for each frame.
        frames: uint8 [T, H, W, 3].
    """

    files: tuple[bytes, ...]
    frames: NDArray[np.uint8]


def make_video(pictures: Mapping[str, Path], frames: int, period: int) -> Video:
    """Draw the video.

    Args:
        pictures: Photographs by name.
        frames: How many frames to draw.
        period: How many frames the whole play takes; what comes after goes on in its manner.

    Raises:
        StageError: A photograph cannot be read.
    """
    photographs = [Image.fromarray(load_picture(path)) for _, path in sorted(pictures.items())]
    ground = photographs[_BACKGROUND % len(photographs)].resize((WIDTH, HEIGHT))
    actors = [(one, *_cut(one, photographs[one.picture % len(photographs)])) for one in ACTORS]
    files = []
    for number in range(frames):
        frame = ground.copy()
        for actor, cutout, outline in actors:
            left, top, _, _ = actor.box_at(number / period)
            frame.paste(cutout, (int(left), int(top)), outline)
        buffer = io.BytesIO()
        frame.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
        files.append(buffer.getvalue())
    decoded = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    return Video(files=tuple(files), frames=np.stack(decoded))


def _cut(actor: Actor, photograph: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Return the cut-out part and its outline, both of the actor's size."""
    left, top, right, bottom = actor.box_at(0.0)
    size = (int(right - left), int(bottom - top))
    box = tuple(
        share * extent for share, extent in zip(actor.crop, photograph.size * 2, strict=True)
    )
    part = photograph.resize(size, box=(box[0], box[1], box[2], box[3]))
    large = Image.new("L", (4 * size[0], 4 * size[1]))
    ImageDraw.Draw(large).ellipse((0, 0, 4 * size[0] - 1, 4 * size[1] - 1), fill=255)
    return part, large.resize(size)
