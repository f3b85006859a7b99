"""Photographs in, pixels out: the one preprocessing that references, checks and predictions share.

A graph takes pictures of one size, so every picture is squashed to it:

1. the file becomes 8-bit RGB (`load_picture`);
2. a filter of Pillow's, which averages when it shrinks, squashes it to HEIGHT x WIDTH (`resize`):
   bilinear for SAM 2's pictures, bicubic for its videos and for DINOv2;
3. values are divided by 255, ImageNet's mean is subtracted and its deviation divided out, in
   float32 and in that order (`normalize`);
4. SAM 2's masks come back at a quarter of the size and are enlarged to the picture bilinearly with
   half-pixel centres (`masks_to_picture`); a pixel belongs to the mask where its logit is above 0.

Colour profiles are ignored: the stored values count, as they do for upstream.
"""

import struct
import warnings
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from exporters.protocol import BAD_INPUT, OUT_OF_MEMORY, StageError

MEAN: Final = (0.485, 0.456, 0.406)
DEVIATION: Final = (0.229, 0.224, 0.225)
MAX_PIXELS: Final = 150_000_000
FORMATS: Final = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")

_BAND_PIXELS = 4_000_000
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error)


def load_picture(path: Path, name: str = "") -> NDArray[np.uint8]:
    """Read a picture file as 8-bit RGB, turned the way its EXIF orientation says.

    Grey becomes three equal channels, 16-bit grey is scaled to 8 bits, palettes are looked up,
    CMYK is converted without a profile, transparency is laid over white, and of an animation the
    first frame counts.

    Args:
        path: A file in one of `FORMATS`, of at most `MAX_PIXELS` pixels.
        name: What errors call it; "picture FILE" unless told.

    Returns:
        uint8 [H, W, 3], writable and contiguous.

    Raises:
        StageError: The file is missing, is no picture, is damaged or cut short, has too many
            pixels, or holds samples that have no agreed 8-bit meaning (exit code 2).
    """
    return np.array(_decode(path, name or f"picture {path.name}"), dtype=np.uint8)


def resize(
    picture: NDArray[np.uint8],
    height: int,
    width: int,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> NDArray[np.uint8]:
    """Squash a picture to a size, whatever its proportions.

    Args:
        picture: uint8 [H, W, 3].
        height: Wanted height in pixels.
        width: Wanted width in pixels.
        resample: Pillow's filter.

    Returns:
        uint8 [height, width, 3].
    """
    return np.array(Image.fromarray(picture).resize((width, height), resample), dtype=np.uint8)


def normalize(resized: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn 8-bit RGB into the encoder's input.

    Args:
        resized: uint8 [height, width, 3].

    Returns:
        float32 [1, 3, height, width], each channel (value / 255 - mean) / deviation.
    """
    scaled = resized.astype(np.float32) / np.float32(255)
    centred = (scaled - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    return np.ascontiguousarray(centred.transpose(2, 0, 1)[np.newaxis], dtype=np.float32)


def preprocess(
    picture: NDArray[np.uint8],
    height: int,
    width: int,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> NDArray[np.float32]:
    """Resize and normalize: uint8 [H, W, 3] to float32 [1, 3, height, width]."""
    return normalize(resize(picture, height, width, resample))


def masks_to_picture(logits: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resample mask logits bilinearly, with half-pixel centres and without antialiasing.

    This is `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`, the step
    with which upstream brings its masks back to the picture.

    Args:
        logits: float32 [N, h, w].
        height: Wanted height in pixels.
        width: Wanted width in pixels.

    Returns:
        float32 [N, height, width].
    """
    top, bottom, down = _taps(logits.shape[1], height)
    left, right, across = _taps(logits.shape[2], width)
    result = np.empty((logits.shape[0], height, width), dtype=np.float32)
    band = max(1, _BAND_PIXELS // width)
    for start in range(0, height, band):
        part = slice(start, start + band)
        below = down[part, np.newaxis]
        rows = logits[:, top[part]] * (1 - below) + logits[:, bottom[part]] * below
        result[:, part] = rows[:, :, left] * (1 - across) + rows[:, :, right] * across
    return result


def _taps(
    source: int, wanted: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return for each wanted sample its two neighbours in the source, and the weight of
    the second.
    """
    scale = np.float32(source) / np.float32(wanted)
    centres = (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    centres = np.clip(centres, 0, source - 1, dtype=np.float32)
    first = centres.astype(np.intp)
    second = np.minimum(first + 1, source - 1)
    return first, second, (centres - first).astype(np.float32)


def _decode(path: Path, name: str) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _open(path, name) as image:
            try:
                image.load()
                upright = ImageOps.exif_transpose(image)
                return _to_rgb(upright, name)
            except Image.DecompressionBombError:
                raise _too_big(name, image.size) from None
            except MemoryError:
                raise StageError(
                    f"There is not enough memory to open the {name}.",
                    f"It has {image.width} x {image.height} pixels.",
                    "Give a smaller picture.",
                    exit_code=OUT_OF_MEMORY,
                ) from None
            except _BROKEN as error:
                raise StageError(
                    f"The {name} is damaged or cut short.",
                    f"Pillow stopped reading its {image.format} data and says: {error}",
                    "Copy or download the file again, or open it in a viewer and save it anew.",
                    exit_code=BAD_INPUT,
                ) from error


def _open(path: Path, name: str) -> Image.Image:
    """Open the header, after the checks that need no decoding."""
    if not path.is_file():
        raise StageError(
            f"There is no {name}.",
            f"{path} is a folder." if path.is_dir() else f"No file has the name {path}.",
            "Check the path; a relative one starts at the current folder.",
            exit_code=BAD_INPUT,
        )
    if path.stat().st_size == 0:
        raise StageError(
            f"The {name} is empty.",
            "The file has no bytes: a download or a copy may have stopped early.",
            "Copy or download the file again.",
            exit_code=BAD_INPUT,
        )
    try:
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError:
        raise _too_big(name, None) from None
    except UnidentifiedImageError:
        raise StageError(
            f"The {name} is not a picture that can be read.",
            _what_it_looks_like(path),
            f"Give a picture in one of these formats: {', '.join(FORMATS)}.",
            exit_code=BAD_INPUT,
        ) from None
    except PermissionError as error:
        raise StageError(
            f"The {name} cannot be read.",
            "Its permissions forbid it.",
            f"chmod u+r {path}",
            exit_code=BAD_INPUT,
        ) from error
    except _BROKEN as error:
        raise StageError(
            f"The {name} is damaged.",
            f"Its header cannot be read; Pillow says: {error}",
            "Copy or download the file again.",
            exit_code=BAD_INPUT,
        ) from error
    if image.width * image.height > MAX_PIXELS:
        size = image.size
        image.close()
        raise _too_big(name, size)
    return image


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        samples = np.asarray(image).astype(np.uint32)
        grey = ((samples * 255 + 32767) // 65535).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("I", "F"):
        raise StageError(
            f"The {name} holds {'floating-point' if image.mode == 'F' else '32-bit'} samples.",
            "Nothing says which value is black and which is white.",
            "Save it with 8 or 16 bits a sample.",
            exit_code=BAD_INPUT,
        )
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def _too_big(name: str, size: tuple[int, int] | None) -> StageError:
    found = f"It has {size[0]} x {size[1]} pixels" if size else "Its header says so"
    return StageError(
        f"The {name} has too many pixels.",
        f"{found}; at most {MAX_PIXELS // 1_000_000} million are opened.",
        "Shrink the picture: the model sees it far smaller anyway.",
        exit_code=BAD_INPUT,
    )


def _what_it_looks_like(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(512)
    if head.lstrip()[:1] == b"<":
        return "It starts like a web page or an XML file (SVG is not read)."
    if head.startswith(b"%PDF"):
        return "It is a PDF document."
    if head[4:8] == b"ftyp":
        return "It looks like HEIC, AVIF or a video."
    if b"\0" not in head:
        return "It looks like text."
    return "Its first bytes are not those of a known picture format."
