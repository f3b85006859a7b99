"""Videos in and out: numbered pictures or a video file, one frame in memory at a time.

Before anything else a video is read through once (`open_pictures`, `open_video`): only so is the
number of frames certain, since containers state it wrongly or not at all, and only so is a fault
in the last frame found before the first one has been worked on.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, TypeAlias

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from exporters.pictures import load_picture
from exporters.protocol import BAD_INPUT, StageError, report_progress

Pixels: TypeAlias = NDArray[np.uint8]

RATE: Final = Fraction(25)
"""Frames per second of what is written where the source does not say."""

_QUALITY: Final[dict[str, str]] = {"crf": "18", "preset": "medium"}
_REPORT_EVERY: Final = 50


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video that has been read through once without a fault.

    Attributes:
        frames: How many frames there are, at least two.
        height: Their height in pixels.
        width: Their width in pixels.
        rate: Frames per second, or None where nothing says so.
        read: Reads the frames anew: uint8 [height, width, 3], RGB, one at a time.
    """

    frames: int
    height: int
    width: int
    rate: Fraction | None
    read: Callable[[], Iterator[Pixels]]


def in_order(names: Iterable[str]) -> list[str]:
    """Sorts names as people count: frame2 before frame10."""
    return sorted(names, key=_natural)


def open_pictures(files: Mapping[str, Path], name: str = "") -> Video:
    """Opens a folder's pictures as a video.

    Args:
        files: The pictures by their names, which give the order (`in_order`).
        name: What errors call the folder.

    Raises:
        StageError: There are fewer than two, one cannot be read, or their sizes differ
            (exit code 2).
    """
    names = in_order(files)

    def read() -> Iterator[Pixels]:
        for number, one in enumerate(names):
            yield load_picture(files[one], f"picture {one} (frame {number})")

    return _survey(read, None, f"the folder {name}" if name else "the folder")


def open_video(path: Path, name: str = "") -> Video:
    """Opens a video file.

    Frames are turned the way the file says, as players do it.

    Args:
        path: A file that FFmpeg reads.
        name: What errors call it; the file's own name unless told.

    Raises:
        StageError: The file is missing, is no video, has fewer than two frames, a frame cannot be
            decoded, or the size changes on the way (exit code 2).
    """
    name = name or path.name
    if not path.is_file() or path.stat().st_size == 0:
        raise _refuse(
            f"The video {name} is empty" if path.is_file() else f"There is no video {name}",
            "the file has no bytes" if path.is_file() else f"no file has the name {path}",
            "check the path, or copy the file again",
        )
    with _open(path, name) as container:
        rate = container.streams.video[0].average_rate
    return _survey(lambda: _decode(path, name), rate, f"the video {name}")


@contextmanager
def write_video(
    path: Path, rate: Fraction | None, threads: int
) -> Iterator[Callable[[Pixels], None]]:
    """Writes H.264 in an MP4 file, in the colour format that every player knows (yuv420p).

    That format halves colours both ways, so a row or a column is added where a side is odd.

    Args:
        path: The file to write.
        rate: Frames per second; `RATE` for None.
        threads: How many threads the encoder may use; the bytes depend on it.

    Yields:
        A function that takes the frames one after the other, uint8 [H, W, 3], all of one size.
    """
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate or RATE, options=_QUALITY)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = threads
        sized = False

        def write(pixels: Pixels) -> None:
            nonlocal sized
            odd_rows, odd_columns = pixels.shape[0] % 2, pixels.shape[1] % 2
            even = np.pad(pixels, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
            if not sized:
                stream.height, stream.width = even.shape[:2]
                sized = True
            container.mux(stream.encode(VideoFrame.from_ndarray(even, format="rgb24")))

        yield write
        if sized:
            container.mux(stream.encode(None))


def _survey(read: Callable[[], Iterator[Pixels]], rate: Fraction | None, name: str) -> Video:
    """Reads everything once: counts, and compares sizes."""
    frames, size = 0, (0, 0)
    for pixels in read():
        found = (pixels.shape[0], pixels.shape[1])
        if frames == 0:
            size = found
        if found != size:
            raise _refuse(
                f"The size changes at frame {frames} of {name}",
                f"it has {found[1]} x {found[0]} pixels, the frames before {size[1]} x {size[0]}",
                "cut the video there, or bring all frames to one size",
            )
        frames += 1
        if frames % _REPORT_EVERY == 0:
            report_progress(None, f"reading through {name}: {frames} frames")
    if frames == 0:
        raise _refuse(
            f"There is no frame in {name}",
            "nothing of it is a picture",
            "give a video file, or a folder with a picture for each frame",
        )
    if frames == 1:
        raise _refuse(
            f"There is only one frame in {name}",
            "nothing to track: objects are followed from frame to frame",
            "use invoke predict for a single picture",
        )
    return Video(frames=frames, height=size[0], width=size[1], rate=rate, read=read)


@contextmanager
def _open(path: Path, name: str) -> Iterator[Any]:
    try:
        container = av.open(str(path))
    except (av.FFmpegError, ValueError) as error:
        raise _refuse(
            f"The video {name} cannot be opened",
            f"FFmpeg says: {_reason(error)}",
            "give a video file such as MP4, or a folder with a picture for each frame",
        ) from error
    with container:
        if not container.streams.video:
            kinds = sorted({stream.type for stream in container.streams})
            raise _refuse(
                f"There is no video in {name}",
                f"the file holds {', '.join(kinds) or 'no stream'}",
                "give a file with moving pictures",
            )
        yield container


def _decode(path: Path, name: str) -> Iterator[Pixels]:
    number = 0
    with _open(path, name) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            for stored, packet in enumerate(container.demux(stream)):
                if packet.is_corrupt:
                    raise _undecodable(name, stored, "its data is cut short, or part of it is lost")
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise _undecodable(name, number, "its data is damaged")
                    yield _upright(frame)
                    number += 1
        except av.FFmpegError as error:
            raise _undecodable(name, number, f"FFmpeg says: {_reason(error)}") from error


def _upright(frame: VideoFrame) -> Pixels:
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)), dtype=np.uint8)


def _natural(name: str) -> list[tuple[int, str]]:
    """Runs of digits as numbers, between runs of anything else."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, name)]


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).strip()[:300]


def _undecodable(name: str, number: int, why: str) -> StageError:
    return _refuse(
        f"Frame {number} of the video {name} cannot be decoded",
        why,
        "copy or download the file again, or cut the video before that frame",
    )


def _refuse(what: str, why: str, next: str) -> StageError:  # noqa: A002
    return StageError(what, why, next, exit_code=BAD_INPUT)
