"""Calibration pictures, one at a time: however many there are, one is in memory.

Damaged ones are left out, as long as spare ones take their place: the number that a calibration was
asked for is the number that it sees.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exporters.media.pictures import load_picture, normalize, preprocess
from exporters.protocol import BAD_INPUT, StageError, report_progress

RESAMPLINGS: Final[Mapping[str, Image.Resampling]] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

_NAMED: Final = 5
_NUMBERED: Final = re.compile(r"[0-9]{5}-(?=.)")


def resample_of(preprocessing: Mapping[str, Any]) -> Image.Resampling:
    """Return Pillow's filter for a contract's `[preprocessing]`: the first word of its `resize`.

    Raises:
        StageError: It is none of `RESAMPLINGS`.
    """
    text = str(preprocessing["resize"])
    try:
        return RESAMPLINGS[text.split(maxsplit=1)[0]]
    except (KeyError, IndexError):
        raise StageError(
            f"The contract resizes pictures by {text!r}.",
            f"Its first word is not one of {', '.join(RESAMPLINGS)}.",
            "Correct the contract's [preprocessing].",
        ) from None


def random_picture(height: int, width: int, seed: int) -> NDArray[np.float32]:
    """Draw uniform 8-bit noise, normalized as a picture is.

    Args:
        height: In pixels.
        width: In pixels.
        seed: The same one makes the same noise.

    Returns:
        float32 [1, 3, height, width].
    """
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return normalize(noise)


class PictureReader:
    """Reads pictures in order, as a graph takes them, as often as it is iterated over.

    Attributes:
        skipped: The pictures that were left out, and why, by name; as of the latest pass.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        *,
        height: int,
        width: int,
        resample: Image.Resampling,
        count: int,
    ) -> None:
        """Name the pictures; none is opened yet.

        Args:
            files: The pictures by name, in their order; those beyond `count` are spare. What
                stands in a name before the last slash, and a number of five digits and a hyphen
                after it, is not told to users.
            height: In pixels, of what is read.
            width: In pixels, of what is read.
            resample: Pillow's filter.
            count: How many are read.
        """
        self._files = dict(files)
        self._height = height
        self._width = width
        self._resample = resample
        self._count = count
        self.skipped: dict[str, str] = {}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        return self.read()

    def read(
        self, share: tuple[float, float] = (0.0, 1.0)
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Read one picture after the other; nothing of those before is kept.

        Args:
            share: From where to where this pass takes the stage's progress.

        Yields:
            Name, and float32 [1, 3, height, width]; `count` times.

        Raises:
            StageError: More pictures are damaged than are spare, or fewer were given than are to
                be read (exit code 2); or memory ran out.
        """
        start, end = share
        self.skipped = {}
        if len(self._files) < self._count:
            raise StageError(
                f"{self._count} calibration pictures were asked for, and {len(self._files)} given.",
                "None is used twice.",
                "Give more pictures, or a smaller --calib-size.",
                exit_code=BAD_INPUT,
            )
        spare = len(self._files) - self._count
        done = 0
        for name in self._files:
            if done == self._count:
                return
            message = f"calibrating: {done + 1} of {self._count}, {_shown(name)}"
            report_progress(start + (end - start) * done / self._count, message)
            # A picture that turns up after too many damaged ones is opened to tell of all.
            picture = self._open(name)
            if picture is not None and len(self.skipped) <= spare:
                done += 1
                yield name, picture
            del picture
        if len(self.skipped) > spare:
            raise self._too_damaged(spare)

    def _open(self, name: str) -> NDArray[np.float32] | None:
        """Return a picture as graphs take it; None, and the reason in `skipped`, where it is
        damaged.
        """
        try:
            picture = load_picture(self._files[name], f"picture {_shown(name)}")
        except StageError as error:
            if error.exit_code != BAD_INPUT:
                raise
            self.skipped[name] = f"{error.what} {error.why}"
            return None
        return preprocess(picture, self._height, self._width, self._resample)

    def _too_damaged(self, spare: int) -> StageError:
        reasons = list(self.skipped.values())
        more = len(reasons) - _NAMED
        listed = [*reasons[:_NAMED], *([f"And {more} more."] if more > 0 else [])]
        return StageError(
            f"{len(reasons)} of {len(self._files)} calibration pictures cannot be used, "
            f"and {spare or 'none'} may be left out.",
            " ".join(listed),
            "Fix them or take them out of the folder, or give a smaller --calib-size.",
            exit_code=BAD_INPUT,
        )


def _shown(name: str) -> str:
    """Return a picture's name as its owner knows it."""
    return _NUMBERED.sub("", name.rpartition("/")[2], count=1)
