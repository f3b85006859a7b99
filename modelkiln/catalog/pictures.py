"""Which pictures of a folder calibrate a quantized graph: the same ones every time, wherever it is.

They are the first of those with one extension, by name; nothing is read of them but their bytes. A
few more than asked for come along, for those that turn out to be damaged.
"""

import os
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelkiln.catalog.parameters import Value
from modelkiln.errors import UsageError
from modelkiln.util.hashing import sha256_file, sha256_json

EXTENSIONS: Final = {
    "jpg": (".jpg", ".jpeg"),
    "jpeg": (".jpeg",),
    "png": (".png",),
    "webp": (".webp",),
}

_ODD: Final = re.compile(r"[^A-Za-z0-9._+-]")
_ANOTHER_FOLDER: Final = "Name a folder of pictures with --image-dir."


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Calibration pictures.

    Attributes:
        folder: Where they lie.
        files: Their paths by name: as many as asked for, and then the spare ones.
        digest: SHA-256 of the SHA-256 of the files, in their order; names do not enter it.
    """

    folder: Path
    files: tuple[Path, ...]
    digest: str


ChoosePictures = Callable[[Path, str, int], Pictures]


def spare(count: int) -> int:
    """Return how many pictures come along for damaged ones: a tenth, and at least one."""
    return max(1, count // 10)


def choose_pictures(
    folder: Path, extension: str, count: int, digest: Callable[[Path], str]
) -> Pictures:
    """Return the first pictures of a folder by name, `count` and then the spare ones that there
    are.

    Sub-folders, hidden files and links that lead nowhere are passed over.

    Args:
        folder: Where to look.
        extension: One of `EXTENSIONS`; the case of a file's own does not matter.
        count: How many are wanted.
        digest: The SHA-256 of a file.

    Raises:
        UsageError: There is no such folder, it has too few pictures of this kind, or something
            cannot be read.
    """
    names = _list_files(folder)
    wanted = sorted(name for name in names if _suffix(name) in EXTENSIONS[extension])
    if not wanted:
        raise _nothing_found(folder, extension, names)
    if len(wanted) < count:
        raise UsageError(
            f"{folder} has {len(wanted)} {extension} pictures, and --calib-size asks for {count}.",
            "None is used twice.",
            f"Name a folder of more pictures with --image-dir, or give --calib-size {len(wanted)}.",
        )
    files = tuple(folder.absolute() / name for name in wanted[: count + spare(count)])
    return Pictures(
        folder=folder.absolute(),
        files=files,
        digest=sha256_json([_digest(path, digest) for path in files]),
    )


def name_inputs(pictures: Pictures) -> dict[str, Path]:
    """Return the pictures by the names that a stage knows them by, which say their order.

    What a path in a container could not take is replaced in a name.
    """
    return {
        f"calibration/{number:05}-{_ODD.sub('_', path.name)[-100:]}": path
        for number, path in enumerate(pictures.files)
    }


def _list_files(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [one.name for one in entries if one.name[0] != "." and one.is_file()]
    except FileNotFoundError:
        raise UsageError(
            f"There is no folder {folder}.", "The path is wrong.", _ANOTHER_FOLDER
        ) from None
    except NotADirectoryError:
        raise UsageError(
            f"{folder} is not a folder.",
            "Calibration takes a folder of pictures.",
            f"For example: --image-dir {folder.parent}",
        ) from None
    except OSError as error:
        raise UsageError(
            f"The folder {folder} cannot be read.",
            f"{error.strerror or error}.",
            "Correct that, or name another folder with --image-dir.",
        ) from error


def _digest(path: Path, digest: Callable[[Path], str]) -> str:
    try:
        return digest(path)
    except OSError as error:
        raise UsageError(
            f"The calibration picture {path} cannot be read.",
            f"{error.strerror or error}.",
            "Make it readable, or take it out of the folder.",
        ) from error


def _nothing_found(folder: Path, extension: str, names: Iterable[str]) -> UsageError:
    suffixes = {_suffix(name) for name in names}
    others = [other for other, known in EXTENSIONS.items() if suffixes.intersection(known[:1])]
    if others:
        return UsageError(
            f"{folder} has no {extension} pictures.",
            f"Its pictures end in {' and '.join(f'.{one}' for one in others)}.",
            f"Give --image-file-extension {others[0]}.",
        )
    return UsageError(f"{folder} has no pictures.", _what_there_is(suffixes), _ANOTHER_FOLDER)


def _what_there_is(suffixes: set[str]) -> str:
    listed = ", ".join(sorted(suffixes - {""})[:5])
    found = f"Its files end in {listed}" if listed else "It holds no file with an extension"
    return f"{found}; sub-folders are not looked into."


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def choose_anew(folder: Path, extension: str, count: int) -> Pictures:
    """Return the first `count` pictures of a folder, all of them read."""
    return choose_pictures(folder, extension, count, sha256_file)


def choose_own(values: Mapping[str, Value], choose: ChoosePictures) -> Pictures | None:
    """Return the calibration pictures of a folder of the user's own; None where none is named.

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
    """Return how many pictures calibrate: one of noise, or as many as were asked for."""
    return 1 if values["use_random_calib"] else int(values["calib_size"])


def choose_from(folder: Path, values: Mapping[str, Value], choose: ChoosePictures) -> Pictures:
    """Return the pictures of a folder that the values of a format's parameters ask for."""
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
