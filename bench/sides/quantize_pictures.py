"""Pictures for bench.quantize: further crops of a set, and pictures as a graph takes them.

Runs inside the environment `quantize`, and prints one line of JSON:

    python -m bench.sides.quantize_pictures SET OUT COUNT

    {"pictures": ["00-a.jpg", ...], "made": M}

OUT, a new folder, gets COUNT pictures: those of SET in the order of their names, and where they are
too few, M crops of them: half of the width and of the height, a place drawn with a fixed seed,
mirrored when their number is odd. They are PNG, so that nothing is lost twice.
"""

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exporters.media.pictures import load_picture
from exporters.precision.calibration import PictureReader, resample_of

# SAM 2's pictures; bench.quantize measures nothing else.
SIDE = 1024
RESIZE = {"resize": "bilinear"}


def hold_to(threads: int) -> None:
    """Keep this process on as many processors: not every tool can be told how many to use."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def read_pictures(files: Sequence[Path], side: int = SIDE) -> PictureReader:
    """Read pictures in this order, as SAM 2's encoder takes them; one at a time."""
    return PictureReader(
        {path.name: path for path in files},
        height=side,
        width=side,
        resample=resample_of(RESIZE),
        count=len(files),
    )


def crop(picture: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Return a quarter of a picture, uint8 [H, W, 3] to [H // 2, W // 2, 3]; the number decides
    which.
    """
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    random = np.random.default_rng(number)
    top, left = (int(random.integers(0, size + 1)) for size in (height, width))
    part = picture[top : top + height, left : left + width]
    return np.ascontiguousarray(part[:, ::-1] if number % 2 else part)


def write_set(source: Path, out: Path, count: int) -> int:
    """Fill a new folder with pictures; return how many are crops."""
    shipped = sorted(one for one in source.iterdir() if one.suffix == ".jpg")
    if not shipped:
        raise ValueError(f"{source} has no pictures")
    out.mkdir()
    for path in shipped[:count]:
        shutil.copyfile(path, out / path.name)
    made = range(max(0, count - len(shipped)))
    for number in made:
        parent = shipped[number % len(shipped)]
        name = f"crop{number:04}-{parent.stem}.png"
        Image.fromarray(crop(load_picture(parent), number)).save(out / name)
    return len(made)


def main() -> None:
    """Read the command line, write the pictures, print their names."""
    parser = argparse.ArgumentParser(description="Calibration pictures of bench.quantize.")
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    made = write_set(options.source, options.out, options.count)
    names = sorted(one.name for one in options.out.iterdir())
    print(json.dumps({"pictures": names, "made": made}))


if __name__ == "__main__":
    main()
