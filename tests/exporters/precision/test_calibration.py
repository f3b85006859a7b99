"""The calibration reader: every kind of picture, exactly as many as asked, one in memory."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from exporters.media.pictures import DEVIATION, MEAN, load_picture, preprocess
from exporters.precision import calibration
from exporters.precision.calibration import PictureReader, random_picture, resample_of
from exporters.protocol import OUT_OF_MEMORY, StageError

BILINEAR = Image.Resampling.BILINEAR
Said = list[tuple[float | None, str]]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """What was reported as progress."""
    lines: Said = []
    monkeypatch.setattr(calibration, "report_progress", lambda *given: lines.append(given))
    return lines


@pytest.fixture(autouse=True)
def _quiet(said: Said) -> None:
    """No progress on standard output."""


def _picture(seed: int = 0, height: int = 24, width: int = 36) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _folder(folder: Path, states: str) -> dict[str, Path]:
    """A picture for each letter: g is good, x is damaged; named as a step names its inputs."""
    files = {}
    for index, state in enumerate(states):
        path = folder / f"{index}.png"
        _picture(index).save(path)
        if state == "x":
            path.write_bytes(path.read_bytes()[:-400])
        files[f"calibration/{index:05}-pic{index}.png"] = path
    return files


def _reader(files: dict[str, Path], count: int, resample: Any = BILINEAR) -> PictureReader:
    return PictureReader(files, height=16, width=20, resample=resample, count=count)


def _names(reader: PictureReader) -> list[int]:
    return [int(name.split("/")[1][:5]) for name, _ in reader]


def _one(path: Path) -> NDArray[np.float32]:
    [(name, picture)] = _reader({"one": path}, 1)
    assert name == "one"
    assert picture.dtype == np.float32
    assert picture.shape == (1, 3, 16, 20)
    return picture


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
@pytest.mark.parametrize("resample", [BILINEAR, Image.Resampling.BICUBIC])
def test_a_picture_is_what_predictions_make_of_it(
    tmp_path: Path, suffix: str, resample: Image.Resampling
) -> None:
    path = tmp_path / f"a.{suffix}"
    _picture().save(path)
    [(_, picture)] = _reader({"a": path}, 1, resample)
    np.testing.assert_array_equal(picture, preprocess(load_picture(path), 16, 20, resample))
    other = Image.Resampling.BOX
    assert not np.array_equal(picture, preprocess(load_picture(path), 16, 20, other))


def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _picture(height=36, width=24).rotate(90, expand=True).save(
        tmp_path / "turned.png", exif=exif.tobytes()
    )
    _picture(height=36, width=24).save(tmp_path / "upright.png")
    np.testing.assert_array_equal(_one(tmp_path / "turned.png"), _one(tmp_path / "upright.png"))


def test_every_kind_of_picture_becomes_rgb(tmp_path: Path) -> None:
    mean, deviation = np.array(MEAN), np.array(DEVIATION)
    red = Image.new("RGB", (30, 30), (255, 0, 0))
    clear = Image.new("RGBA", (30, 30), (0, 0, 255, 0))
    kinds = {
        "grey.png": (Image.new("L", (30, 30), 51), (51, 51, 51)),
        "deep.png": (Image.fromarray(np.full((30, 30), 51 * 257, np.uint16)), (51, 51, 51)),
        "cmyk.jpg": (Image.new("CMYK", (30, 30), (0, 255, 255, 0)), (255, 0, 0)),
        "palette.png": (red.convert("P"), (255, 0, 0)),
        "clear.png": (clear, (255, 255, 255)),
        "clear.webp": (clear, (255, 255, 255)),
        "bits.png": (Image.new("1", (30, 30), 1), (255, 255, 255)),
    }
    for name, (image, colour) in kinds.items():
        image.save(tmp_path / name)
        wanted = (np.array(colour) / 255 - mean) / deviation
        found = _one(tmp_path / name)
        spread = np.abs(found - wanted.reshape(1, 3, 1, 1)).max()
        assert spread < (0.05 if name.endswith(".jpg") else 1e-5), name


@pytest.mark.parametrize("mode", ["F", "I"])
def test_samples_without_a_range_are_refused_by_name(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tiff"
    Image.new(mode, (30, 30)).save(path)
    with pytest.raises(StageError, match=r"picture depth\.tiff holds .* samples") as caught:
        list(_reader({"calibration/00000-depth.tiff": path}, 1))
    assert caught.value.exit_code == 2


def test_exactly_as_many_as_asked_in_order_and_as_often_as_wanted(tmp_path: Path) -> None:
    files = _folder(tmp_path, "gggggg")
    reader = _reader(dict(reversed(files.items())), 4)
    assert len(reader) == 4
    assert _names(reader) == [5, 4, 3, 2]
    assert _names(reader) == [5, 4, 3, 2]
    assert not reader.skipped


def test_spare_pictures_take_the_place_of_damaged_ones(tmp_path: Path) -> None:
    reader = _reader(_folder(tmp_path, "gxggxgg"), 4)
    for _ in range(2):
        assert _names(reader) == [0, 2, 3, 5]
        assert list(reader.skipped) == [
            "calibration/00001-pic1.png",
            "calibration/00004-pic4.png",
        ]
    for number, reason in zip((1, 4), reader.skipped.values(), strict=True):
        assert f"The picture pic{number}.png is damaged" in reason


def test_what_was_skipped_is_that_of_the_latest_pass(tmp_path: Path) -> None:
    files = _folder(tmp_path, "xgg")
    reader = _reader(files, 2)
    assert _names(reader) == [1, 2]
    _picture().save(tmp_path / "0.png")
    assert _names(reader) == [0, 1]
    assert not reader.skipped


def test_damage_after_the_last_that_is_wanted_does_not_matter(tmp_path: Path) -> None:
    reader = _reader(_folder(tmp_path, "gggxx"), 3)
    assert _names(reader) == [0, 1, 2]
    assert not reader.skipped


@pytest.mark.parametrize(
    ("states", "count", "what", "read"),
    [
        ("xg", 2, "1 of 2 calibration pictures cannot be used, and none may", 0),
        ("gxgxgxg", 5, "3 of 7 calibration pictures cannot be used, and 2 may", 3),
        ("xxgggx", 5, "3 of 6 calibration pictures cannot be used, and 1 may", 0),
        ("ggx", 3, "1 of 3 calibration pictures", 2),
    ],
)
def test_more_damage_than_spare_pictures_is_an_error_that_tells_of_all(
    tmp_path: Path, states: str, count: int, what: str, read: int
) -> None:
    seen: list[str] = []
    with pytest.raises(StageError) as caught:
        seen.extend(name for name, _ in _reader(_folder(tmp_path, states), count))
    assert caught.value.exit_code == 2
    assert caught.value.what.startswith(what)
    for index, state in enumerate(states):
        assert (f"picture pic{index}.png is damaged" in caught.value.why) is (state == "x")
    # Once it cannot succeed, no graph runs for nothing.
    assert len(seen) == read


def test_of_many_damaged_pictures_the_first_are_named(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        list(_reader(_folder(tmp_path, "x" * 9), 8))
    assert caught.value.what.startswith("9 of 9")
    assert caught.value.why.count("is damaged") == 5
    assert caught.value.why.endswith(" And 4 more.")


def test_fewer_pictures_than_asked_for_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="3 calibration pictures were asked for, and 2 given"):
        next(iter(_reader(_folder(tmp_path, "gg"), 3)))


def test_memory_that_runs_out_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NDArray[np.uint8]:
        raise StageError("memory", "it is out", "buy some", exit_code=OUT_OF_MEMORY)

    monkeypatch.setattr(calibration, "load_picture", fail)
    with pytest.raises(StageError, match="memory") as caught:
        list(_reader(_folder(tmp_path, "ggg"), 1))
    assert caught.value.exit_code == OUT_OF_MEMORY


def test_progress_is_told_for_each_picture(tmp_path: Path, said: Said) -> None:
    list(_reader(_folder(tmp_path, "gxgg"), 2).read((0.25, 0.75)))
    assert said == [
        (0.25, "calibrating: 1 of 2, pic0.png"),
        (0.5, "calibrating: 2 of 2, pic1.png"),
        (0.5, "calibrating: 2 of 2, pic2.png"),
    ]


def _peak(files: Sequence[Path]) -> int:
    reader = PictureReader(
        {str(index): path for index, path in enumerate(files)},
        height=256,
        width=256,
        resample=BILINEAR,
        count=len(files),
    )
    list_of_sums = []
    tracemalloc.start()
    try:
        for _, picture in reader:
            list_of_sums.append(float(picture.sum()))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        assert len(list_of_sums) == len(files)


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    files = []
    for index in range(64):
        files.append(tmp_path / f"{index}.jpg")
        _picture(index, 512, 512).save(files[-1], quality=60)
    _peak(files[:2])
    few, many = _peak(files[:4]), _peak(files)
    # A picture is 786 kB as float32; 60 more of them would be 47 MB.
    assert many < few + 400_000, (few, many)
    assert few < 6_000_000


def test_noise_is_that_of_a_seed_and_normalized_as_a_picture_is() -> None:
    noise = random_picture(16, 20, 3)
    assert noise.dtype == np.float32
    assert noise.shape == (1, 3, 16, 20)
    np.testing.assert_array_equal(noise, random_picture(16, 20, 3))
    assert not np.array_equal(noise, random_picture(16, 20, 4))
    bytes_again = noise * np.array(DEVIATION).reshape(3, 1, 1) + np.array(MEAN).reshape(3, 1, 1)
    bytes_again *= 255
    np.testing.assert_allclose(bytes_again, np.round(bytes_again), atol=1e-3)
    large = random_picture(128, 128, 0) * np.array(DEVIATION).reshape(3, 1, 1)
    large = (large + np.array(MEAN).reshape(3, 1, 1)) * 255
    counts = np.bincount(np.round(large).astype(int).ravel(), minlength=256)
    assert counts.min() > 100
    assert counts.size == 256


def test_the_filter_is_the_one_that_the_contract_names() -> None:
    assert resample_of({"resize": "bilinear with antialiasing, squashed"}) is BILINEAR
    bicubic = resample_of({"resize": "bicubic with antialiasing"})
    assert bicubic is Image.Resampling.BICUBIC
    for wrong in ("nearest", ""):
        with pytest.raises(StageError, match="resizes pictures by"):
            resample_of({"resize": wrong})
