"""What the options of a calibration mean together: which pictures, and of which size."""

from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelkiln.catalog.parameters import Value
from modelkiln.catalog.pictures import Pictures, choose_pictures
from modelkiln.errors import UsageError
from modelkiln.util.hashing import sha256_file

ChoosePictures = Callable[[Path, str, int], Pictures]


def choose_anew(folder: Path, extension: str, count: int) -> Pictures:
    """The first `count` pictures of a folder, all of them read."""
    return choose_pictures(folder, extension, count, sha256_file)


def choose_own(values: Mapping[str, Value], choose: ChoosePictures) -> Pictures | None:
    """The calibration pictures of a folder of the user's own; None where none is named.

    Args:
        values: Those of a format's parameters.

    Raises:
        UsageError: There are none, or noise was asked for as well.
    """
    folder = str(values.get("image_dir", ""))
    if not folder:
        return None
    if values["use_random_calib"]:
        raise UsageError(
            "--image-dir and --use-random-calib true were both given.",
            "Noise calibrates in the place of pictures.",
            "Leave one of them out.",
        )
    return choose_from(Path(folder).expanduser(), values, choose)


def require_no_count(values: Mapping[str, Value], given: Container[str]) -> None:
    """Refuse a number of pictures for noise.

    Args:
        values: Those of a format's parameters.
        given: The names of those that were asked for.

    Raises:
        UsageError: Both were asked for.
    """
    if values.get("use_random_calib") and "calib_size" in given:
        raise UsageError(
            "--calib-size and --use-random-calib true were both given.",
            "Calibration with noise shows one picture of it, always the same.",
            "Leave one of them out.",
        )


def picture_count(values: Mapping[str, Value]) -> int:
    """How many pictures calibrate: one of noise, or as many as were asked for."""
    return 1 if values["use_random_calib"] else int(values["calib_size"])


def choose_from(folder: Path, values: Mapping[str, Value], choose: ChoosePictures) -> Pictures:
    """The pictures of a folder that the values of a format's parameters ask for."""
    return choose(folder, str(values["image_file_extension"]), int(values["calib_size"]))


def require_sides(text: str, graphs: Sequence[Mapping[str, Any]], target: str, sized: bool) -> None:
    """Compare what `--image-input-dimension` says with the picture that the graphs take.

    Args:
        text: HEIGHT,WIDTH.
        graphs: Those that are quantized.
        target: Whose they are.
        sized: Whether the contract has other sizes.

    Raises:
        UsageError: They are not the same.
    """
    dims = next(
        value["dims"] for graph in graphs for value in graph["inputs"] if len(value["dims"]) == 4
    )
    real = f"{dims[2]},{dims[3]}"
    if text != real:
        height, _, width = text.partition(",")
        raise UsageError(
            f"image_input_dimension cannot be {text}: {target} takes pictures of {real}.",
            "A graph takes pictures of the height and width that it was exported for.",
            f"Leave --image-input-dimension out, or give --size {height}x{width} as well."
            if sized
            else "Leave --image-input-dimension out.",
        )
