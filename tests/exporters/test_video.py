"""Reading and writing videos; faults are found before the first frame is worked on."""

import itertools
import re
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from exporters.protocol import StageError
from exporters.video import RATE, in_order, open_pictures, open_video, write_video

HEIGHT, WIDTH = 48, 64


def _frame(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """A dark picture with a bright bar that moves to the right, and a red upper left corner."""
    pixels = np.full((height, width, 3), 40, dtype=np.uint8)
    pixels[:, 4 * number % width :][:, :8] = 230
    pixels[: height // 4, : width // 4] = (200, 20, 20)
    return pixels


def _write(path: Path, frames: int = 12, rate: Fraction | None = None, **size: int) -> Path:
    with write_video(path, rate, 1) as write:
        for number in range(frames):
            write(_frame(number, **size))
    return path


def _write_pictures(folder: Path, names: list[str]) -> dict[str, Path]:
    for number, name in enumerate(names):
        Image.fromarray(_frame(number)).save(folder / name)
    return {name: folder / name for name in reversed(names)}


def _refused(path: Path) -> StageError:
    with pytest.raises(StageError) as caught:
        open_video(path)
    assert caught.value.exit_code == 2
    assert path.name in caught.value.what
    return caught.value


def test_a_written_video_reads_back(tmp_path: Path) -> None:
    video = open_video(_write(tmp_path / "a.mp4", rate=Fraction(30000, 1001)))
    assert (video.frames, video.height, video.width) == (12, HEIGHT, WIDTH)
    assert video.rate == Fraction(30000, 1001)
    for _ in range(2):
        frames = list(video.read())
        assert len(frames) == 12
        for number, pixels in enumerate(frames):
            assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
            assert np.abs(pixels.astype(int) - _frame(number)).mean() < 4


def test_odd_sides_gain_a_row_and_a_column(tmp_path: Path) -> None:
    video = open_video(_write(tmp_path / "a.mp4", height=31, width=45))
    assert (video.height, video.width) == (32, 46)
    assert video.rate == RATE
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert container.streams.video[0].codec_context.name == "h264"


def test_a_video_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    one, two = (_write(tmp_path / name).read_bytes() for name in ("a.mp4", "b.mp4"))
    assert one == two


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_frames_are_turned_as_the_file_says(tmp_path: Path, degrees: int, turns: int) -> None:
    _write(tmp_path / "a.mp4", frames=2)
    with (
        av.open(str(tmp_path / "a.mp4")) as source,
        av.open(str(tmp_path / "b.mp4"), "w") as turned,
    ):
        stream = turned.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(degrees)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                turned.mux(packet)
    upright = list(open_video(tmp_path / "a.mp4").read())
    video = open_video(tmp_path / "b.mp4")
    expected = np.rot90(upright[1], turns)
    assert (video.height, video.width) == expected.shape[:2]
    np.testing.assert_array_equal(list(video.read())[1], expected)


def test_frames_are_not_held(tmp_path: Path) -> None:
    video = open_video(_write(tmp_path / "a.mp4", frames=120, height=256, width=256))
    tracemalloc.start()
    try:
        for _ in video.read():
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * 256 * 256 * 3


def test_pictures_come_in_the_order_that_people_count() -> None:
    names = ["10.png", "2.png", "a10b2.png", "a9b10.png", "01.png", "a10b1.png", "1.png"]
    expected = ["01.png", "1.png", "2.png", "10.png", "a9b10.png", "a10b1.png", "a10b2.png"]
    for order in itertools.islice(itertools.permutations(names), 0, 5040, 97):
        assert in_order(order) == expected


def test_a_folder_of_pictures_is_a_video(tmp_path: Path) -> None:
    files = _write_pictures(tmp_path, [f"frame{number}.png" for number in range(12)])
    video = open_pictures(files)
    assert (video.frames, video.height, video.width, video.rate) == (12, HEIGHT, WIDTH, None)
    for number, pixels in enumerate(video.read()):
        np.testing.assert_array_equal(pixels, _frame(number))


def test_a_picture_of_another_size_is_refused_by_its_number(tmp_path: Path) -> None:
    files = _write_pictures(tmp_path, [f"{number}.png" for number in range(5)])
    Image.fromarray(_frame(0, 20, 30)).save(tmp_path / "3.png")
    with pytest.raises(StageError, match=r"at frame 3 .*30 x 20.*64 x 48") as caught:
        open_pictures(files)
    assert caught.value.exit_code == 2


def test_a_damaged_picture_is_refused_by_its_number(tmp_path: Path) -> None:
    files = _write_pictures(tmp_path, [f"{number}.png" for number in range(5)])
    files["4.png"].write_bytes(files["4.png"].read_bytes()[:100])
    with pytest.raises(StageError, match=r"4\.png \(frame 4\)"):
        open_pictures(files)


@pytest.mark.parametrize(("frames", "reason"), [(0, "no frame"), (1, "only one frame")])
def test_too_few_pictures_are_refused(tmp_path: Path, frames: int, reason: str) -> None:
    files = _write_pictures(tmp_path, [f"{number}.png" for number in range(frames)])
    with pytest.raises(StageError, match=reason) as caught:
        open_pictures(files, "holiday")
    assert caught.value.exit_code == 2
    assert "holiday" in caught.value.what


def test_one_frame_is_sent_to_predict(tmp_path: Path) -> None:
    error = _refused(_write(tmp_path / "one.mp4", frames=1))
    assert "nothing to track" in error.why
    assert "invoke predict" in error.next


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    assert "no video" in _refused(tmp_path / "missing.mp4").what
    (tmp_path / "empty.mp4").touch()
    assert "empty" in _refused(tmp_path / "empty.mp4").what
    (tmp_path / "page.mp4").write_text("<html>404</html>", encoding="utf-8")
    assert "cannot be opened" in _refused(tmp_path / "page.mp4").what


def test_a_file_with_sound_alone_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    error = _refused(tmp_path / "sound.mp4")
    assert "no video in" in error.what
    assert "audio" in error.why


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_video_that_is_cut_short_is_refused_at_the_frame(tmp_path: Path, share: float) -> None:
    """Its frames are equally large, so the share tells which of them is the first to miss bytes."""
    noise = np.random.default_rng(0)
    with write_video(tmp_path / "whole.mp4", None, 1) as write:
        for _ in range(20):
            write(noise.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    whole = (tmp_path / "whole.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: int(len(whole) * share)])
    found = re.fullmatch(r"Frame (\d+) of the video cut.mp4 cannot be decoded", _refused(path).what)
    assert found and abs(int(found[1]) - share * 20) < 3


def test_a_video_that_changes_its_size_is_refused_at_the_frame(tmp_path: Path) -> None:
    path = tmp_path / "joined.h264"
    parts = []
    for number, (height, width) in enumerate([(48, 64), (96, 128)]):
        part = tmp_path / f"{number}.h264"
        with av.open(str(part), "w", format="h264") as container:
            stream = container.add_stream("libx264", rate=25, options={"tune": "zerolatency"})
            stream.pix_fmt, stream.height, stream.width = "yuv420p", height, width
            for place in range(6):
                frame = av.VideoFrame.from_ndarray(_frame(place, height, width), format="rgb24")
                frame.pts = place + 6 * number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    error = _refused(path)
    assert "size changes at frame 6" in error.what
    assert "128 x 96" in error.why
