"""The tracker contracts' part of `calibrate`: each picture becomes a short video.

The image encoder alone takes a picture. Memory attention, where it is to be quantized, takes what
the other graphs make of a picture and the frames before it: the picture moves sideways for a few
frames, and an object in its middle is followed.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.media.pictures import DEVIATION, MEAN
from exporters.precision.ranges import Run
from exporters.sam2.tracker.track import open_tracker

ATTENTION: Final = "memory_attention"
FRAMES: Final = 4
# Of the picture's side, between two frames.
STEP: Final = 1 / 64


def feed(run: Run, params: Mapping[str, Any], picture: NDArray[np.float32]) -> None:
    """Run the graphs to be calibrated on what a picture leads to.

    Args:
        run: Runs a graph: its name and inputs by name give its outputs by name.
        params: The step's: `graphs`, `quantized` and `options`.
        picture: float32 [1, 3, S, S], preprocessed.
    """
    if ATTENTION not in params["quantized"]:
        (image,) = next(one for one in params["graphs"] if one["name"] == "image_encoder")["inputs"]
        run("image_encoder", {image["name"]: picture})
        return
    pixels = restore(picture)
    side = pixels.shape[1]
    tracker = open_tracker(params, run, FRAMES)
    for frame in range(FRAMES):
        tracker.start_frame(np.roll(pixels, round(frame * STEP * side), axis=1))
        if frame:
            tracker.track()
        else:
            tracker.prompt(1, box=(side / 4, side / 4, side * 3 / 4, side * 3 / 4))
    tracker.finish()


def restore(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Undo `exporters.media.pictures.normalize`: float32 [1, 3, H, W] to uint8 [H, W, 3]."""
    channels = picture[0].transpose(1, 2, 0) * np.array(DEVIATION, np.float32)
    scaled = (channels + np.array(MEAN, np.float32)) * np.float32(255)
    return np.ascontiguousarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
