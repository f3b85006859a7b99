"""Reading and writing videos; faults are found before the first frame is worked on."""

import errno
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

from exporters.media.video import RATE, in_order, open_pictures, open_video, write_video
from exporters.protocol import StageError

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


def test_colours_are_those_of_bt709_and_the_file_says_so(tmp_path: Path) -> None:
    """The codes are H.273's: 1 is BT.709, and FFmpeg's for the limited range."""
    with write_video(tmp_path / "a.mp4", None, 1) as write:
        for _ in range(2):
            write(np.full((HEIGHT, WIDTH, 3), (255, 0, 0), dtype=np.uint8))
    with av.open(str(tmp_path / "a.mp4")) as container:
        codec = container.streams.video[0].codec_context
        tags = (codec.colorspace, codec.color_range, codec.color_primaries, codec.color_trc)
        assert tags == (1, 1, 1, 1)
        planes = next(container.decode(video=0)).to_ndarray()
    luma, blue, red = planes[:HEIGHT], planes[HEIGHT : HEIGHT * 5 // 4], planes[HEIGHT * 5 // 4 :]
    # BT.709's red; BT.601's would be 81, 90, 240.
    for plane, expected in ((luma, 63), (blue, 102), (red, 240)):
        assert np.abs(plane.astype(int) - expected).max() <= 1
    (first, _) = open_video(tmp_path / "a.mp4").read()
    assert np.abs(first.astype(int) - (255, 0, 0)).max() <= 3
    assert b"colrnclx" in (tmp_path / "a.mp4").read_bytes()


def test_a_full_disk_is_told_as_such() -> None:
    noise = np.random.default_rng(0)

    def fill() -> None:
        with write_video(Path("/dev/full"), None, 1) as write:
            for _ in range(60):
                write(noise.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))

    with pytest.raises(OSError, match="No space left") as caught:
        fill()
    assert caught.value.errno == errno.ENOSPC


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
    with pytest.raises(StageError, match=r"at frame 3 \(3\.png\) .*30 x 20.*64 x 48") as caught:
        open_pictures(files)
    assert caught.value.exit_code == 2
    with pytest.raises(StageError, match=r"at frame 3 \(dive\.png\) of the folder"):
        open_pictures(files, titles=["a.png", "b.png", "c.png", "dive.png", "e.png"])


def test_a_damaged_picture_is_refused_by_its_number(tmp_path: Path) -> None:
    files = _write_pictures(tmp_path, [f"{number}.png" for number in range(5)])
    files["4.png"].write_bytes(files["4.png"].read_bytes()[:100])
    with pytest.raises(StageError, match=r"picture 4\.png \(frame 4\)"):
        open_pictures(files)
    with pytest.raises(StageError, match=r"picture last one\.png \(frame 4\)"):
        open_pictures(files, titles=["a.png", "b.png", "c.png", "d.png", "last one.png"])


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


LISTS = {
    "concat.mp4": "ffconcat version 1.0\nfile whole.mp4\n",
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nwhole.mp4\n#EXT-X-ENDLIST\n",
    "rtsp.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "tty.txt": "drawn as a picture by FFmpeg\n" * 40,
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_other_files_and_texts_are_refused(tmp_path: Path, name: str) -> None:
    _write(tmp_path / "whole.mp4")
    (tmp_path / name).write_text(LISTS[name], encoding="utf-8")
    error = _refused(tmp_path / name)
    assert "is of a kind that is not read" in error.what
    assert "other files" in error.why and "MP4" in error.next


def test_a_picture_is_no_video_file(tmp_path: Path) -> None:
    files = _write_pictures(tmp_path, ["00000.png", "00001.png"])
    assert "is of a kind that is not read" in _refused(files["00000.png"]).what


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.mov", "a.flv", "a.nut"])
def test_the_usual_containers_are_read(tmp_path: Path, name: str) -> None:
    _write(tmp_path / "whole.mp4")
    pictures = list(open_video(tmp_path / "whole.mp4").read())
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("mpeg4" if name == "a.avi" else "libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for pixels in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    assert open_video(tmp_path / name).frames == 12


def test_a_name_with_a_colon_is_a_file_and_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "http:a.mp4", frames=3)
    monkeypatch.chdir(tmp_path)
    assert open_video(Path("http:a.mp4")).frames == 3


@pytest.mark.parametrize("threads", [1, 7])
def test_the_decoder_uses_the_threads_that_it_is_given(tmp_path: Path, threads: int) -> None:
    """One thread works where the caller does; of more, some decode and some convert colours."""
    _write(tmp_path / "a.mp4", frames=4)
    tasks = Path("/proc/self/task")
    before = len(list(tasks.iterdir()))
    reading = open_video(tmp_path / "a.mp4", threads=threads).read()
    next(reading)
    started = len(list(tasks.iterdir())) - before
    assert started == 0 if threads == 1 else threads <= started < 2 * threads


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
    pattern = r"The video cut.mp4 cannot be decoded near frame (\d+)\."
    found = re.fullmatch(pattern, _refused(path).what)
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
