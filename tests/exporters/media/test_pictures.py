"""Whatever a picture file holds, it becomes 8-bit RGB or a clear refusal."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from exporters.media import pictures
from exporters.media.pictures import load_picture, masks_to_picture, normalize, preprocess, resize
from exporters.protocol import StageError

PHOTOGRAPHS = Path(__file__).parents[3] / "catalog" / "pictures"


def _rgb(height: int, width: int) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _save(folder: Path, image: Image.Image, name: str = "picture.png", **options: Any) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def _refused(path: Path) -> StageError:
    with pytest.raises(StageError) as caught:
        load_picture(path)
    assert caught.value.exit_code == 2
    assert caught.value.what
    assert caught.value.why
    assert caught.value.next
    return caught.value


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    )


def test_the_bundled_photographs_are_square_wide_and_tall() -> None:
    shapes = {path.name: load_picture(path).shape for path in sorted(PHOTOGRAPHS.glob("*.jpg"))}
    ratios = [shape[1] / shape[0] for shape in shapes.values()]
    assert len(shapes) >= 3
    assert min(ratios) < 0.7
    assert max(ratios) >= 1.4
    assert any(0.9 < ratio < 1.1 for ratio in ratios)
    readme = (PHOTOGRAPHS / "README.md").read_text(encoding="utf-8")
    for name in shapes:
        assert f"`{name}`" in readme
        assert (PHOTOGRAPHS / name).stat().st_size <= 200_000


def test_rgb_is_kept_as_it_is(tmp_path: Path) -> None:
    pixels = _rgb(5, 7)
    loaded = load_picture(_save(tmp_path, Image.fromarray(pixels)))
    assert loaded.dtype == np.uint8
    assert loaded.flags.writeable
    np.testing.assert_array_equal(loaded, pixels)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = _rgb(5, 7)[..., 0]
    loaded = load_picture(_save(tmp_path, Image.fromarray(grey)))
    np.testing.assert_array_equal(loaded, np.stack([grey] * 3, axis=-1))


def test_one_bit_pictures_become_black_and_white(tmp_path: Path) -> None:
    bits = _rgb(5, 7)[..., 0] > 127
    loaded = load_picture(_save(tmp_path, Image.fromarray(bits)))
    np.testing.assert_array_equal(loaded[..., 1], np.where(bits, 255, 0))


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    loaded = load_picture(_save(tmp_path, Image.fromarray(deep)))
    np.testing.assert_array_equal(loaded[..., 0], [[0, 1, 128, 255]])


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    loaded = load_picture(_save(tmp_path, image))
    np.testing.assert_array_equal(loaded, [[[10, 20, 30], [200, 100, 50]]])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (2, 1), 0)
    image.putpixel((1, 0), (10, 20, 30, 255) if mode == "RGBA" else (20, 255))
    loaded = load_picture(_save(tmp_path, image))
    np.testing.assert_array_equal(loaded[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(loaded[0, 1], [10, 20, 30] if mode == "RGBA" else [20, 20, 20])


def test_a_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    loaded = load_picture(_save(tmp_path, image, transparency=0))
    np.testing.assert_array_equal(loaded, [[[255, 255, 255], [200, 100, 50]]])


def test_cmyk_is_converted(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    loaded = load_picture(_save(tmp_path, image, "picture.jpg", quality=100))
    assert loaded[..., 0].min() > 245
    assert loaded[..., 1:].max() < 10


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda pixels: pixels),
        (2, lambda pixels: pixels[:, ::-1]),
        (3, lambda pixels: pixels[::-1, ::-1]),
        (6, lambda pixels: np.rot90(pixels, -1)),
        (8, lambda pixels: np.rot90(pixels, 1)),
    ],
)
def test_exif_orientation_is_obeyed(
    tmp_path: Path, orientation: int, turn: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    pixels = _rgb(5, 7)
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = load_picture(_save(tmp_path, Image.fromarray(pixels), exif=exif))
    np.testing.assert_array_equal(loaded, turn(pixels))


def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 2), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    path = _save(
        tmp_path, frames[0], "picture.gif", save_all=True, append_images=frames[1:], duration=100
    )
    np.testing.assert_array_equal(load_picture(path)[0, 0], [255, 0, 0])


def test_a_single_pixel_is_a_picture(tmp_path: Path) -> None:
    loaded = load_picture(_save(tmp_path, Image.new("RGB", (1, 1), (7, 8, 9))))
    assert loaded.shape == (1, 1, 3)
    assert preprocess(loaded, 32, 32).shape == (1, 3, 32, 32)


def test_a_missing_picture_is_refused(tmp_path: Path) -> None:
    assert "no picture" in _refused(tmp_path / "absent.jpg").what


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "folder" in _refused(tmp_path).why


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.touch()
    assert "empty" in _refused(path).what


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"just some words", "text"),
        (bytes(range(256)), "first bytes"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    error = _refused(path)
    assert "not a picture" in error.what
    assert reason in error.why


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg", "picture.webp", "picture.tiff"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_picture_is_refused(tmp_path: Path, name: str, kept: float) -> None:
    path = _save(tmp_path, Image.fromarray(_rgb(64, 64)), name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    _refused(path)


def test_a_corrupt_picture_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path, Image.fromarray(_rgb(64, 64)))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    assert "damaged" in _refused(path).what


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(_png_header(60_000, 60_000) + _png_chunk(b"IDAT", b""))
    assert "too many pixels" in _refused(path).what


def test_more_pixels_than_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(tmp_path, Image.new("L", (101, 100)))
    monkeypatch.setattr(pictures, "MAX_PIXELS", 101 * 100 - 1)
    error = _refused(path)
    assert "too many pixels" in error.what
    assert "101 x 100" in error.why
    monkeypatch.setattr(pictures, "MAX_PIXELS", 101 * 100)
    assert load_picture(path).shape == (100, 101, 3)


def test_a_large_picture_below_the_limit_works(tmp_path: Path) -> None:
    path = _save(tmp_path, Image.new("L", (7_000, 5_000), 200), compress_level=1)
    picture = load_picture(path)
    assert picture.shape == (5_000, 7_000, 3)
    assert (resize(picture, 16, 16) == 200).all()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_samples_without_an_agreed_meaning_are_refused(tmp_path: Path, mode: str) -> None:
    path = _save(tmp_path, Image.new(mode, (2, 2)), "picture.tiff")
    assert "samples" in _refused(path).what


def test_errors_use_the_name_that_they_are_given(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        load_picture(tmp_path / "input", "picture holiday.jpg")
    assert "picture holiday.jpg" in caught.value.what


def test_resize_squashes_and_averages() -> None:
    columns = np.zeros((40, 80, 3), dtype=np.uint8)
    columns[:, ::2] = 200
    small = resize(columns, 5, 10)
    assert small.shape == (5, 10, 3)
    assert np.abs(small.astype(int) - 100).max() <= 4


@pytest.mark.parametrize("wanted", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_the_filter_is_the_one_that_was_asked_for(wanted: Image.Resampling) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    expected = np.array(Image.fromarray(picture).resize((50, 12), wanted))
    np.testing.assert_array_equal(resize(picture, 12, 50, wanted), expected)
    np.testing.assert_array_equal(preprocess(picture, 12, 50, wanted), normalize(expected))
    usual = wanted is Image.Resampling.BILINEAR
    assert np.array_equal(resize(picture, 12, 50), expected) is usual


def test_normalize_is_the_contract_s_formula() -> None:
    picture = np.zeros((2, 2, 3), dtype=np.uint8)
    picture[0, 1] = (255, 128, 1)
    result = normalize(picture)
    assert result.shape == (1, 3, 2, 2)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    expected = [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (1 / 255 - 0.406) / 0.225]
    np.testing.assert_allclose(result[0, :, 0, 1], expected, rtol=1e-6)
    np.testing.assert_allclose(result[0, :, 1, 0], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])


def test_preprocess_equals_torchvision_to_the_bit() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    for path in sorted(PHOTOGRAPHS.glob("*.jpg")):
        picture = resize(load_picture(path), 256, 256)
        upstream = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(pictures.MEAN, pictures.DEVIATION)]
        )
        np.testing.assert_array_equal(normalize(picture)[0], upstream(picture).numpy())


@pytest.mark.parametrize("size", [(64, 64), (37, 91), (16, 16), (5, 3), (1, 1)])
@pytest.mark.parametrize("band", [4_000_000, 50])
def test_masks_are_enlarged_as_torch_does_it(
    size: tuple[int, int], band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(pictures, "_BAND_PIXELS", band)
    logits = np.random.default_rng(1).normal(0, 10, (3, 16, 16)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None], size, mode="bilinear", align_corners=False
    )[0]
    result = masks_to_picture(logits, *size)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected.numpy(), atol=2e-5)
