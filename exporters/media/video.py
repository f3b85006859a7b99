"""Videos in and out: numbered pictures or a video file, one frame in memory at a time.

Before anything else a video is read through once (`open_pictures`, `open_video`): only so is the
number of frames certain, since containers state it wrongly or not at all, and only so is a fault
in the last frame found before the first one has been worked on.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, TypeAlias

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from exporters.media.pictures import load_picture
from exporters.protocol import BAD_INPUT, StageError, report_progress

Pixels: TypeAlias = NDArray[np.uint8]

RATE: Final = Fraction(25)
"""Frames per second of what is written where the source does not say."""

CONTAINERS: Final[tuple[str, ...]] = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    "avi",
    "mpegts",
    "mpeg",
    "mpegvideo",
    "asf",
    "flv",
    "ogg",
    "mxf",
    "gxf",
    "dv",
    "nut",
    "rm",
    "wtv",
    "ivf",
    "obu",
    "h263",
    "h264",
    "hevc",
    "vvc",
    "m4v",
    "mjpeg",
    "yuv4mpegpipe",
    "gif",
    "apng",
)
"""FFmpeg's names of what is opened: files that hold their pictures themselves. What it would read
besides are lists of other files and addresses, devices, text drawn as pictures, single pictures."""

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
    """Sort names as people count: frame2 before frame10."""
    return sorted(names, key=_natural)


def open_pictures(
    files: Mapping[str, Path], name: str = "", titles: Sequence[str] | None = None
) -> Video:
    """Open a folder's pictures as a video.

    Args:
        files: The pictures by their names, which give the order (`in_order`).
        name: What errors call the folder.
        titles: What errors call the pictures, in their order; their names unless told.

    Raises:
        StageError: There are fewer than two, one cannot be read, or their sizes differ
            (exit code 2).
    """
    names = in_order(files)
    called = names if titles is None else titles

    def read() -> Iterator[Pixels]:
        for number, (one, title) in enumerate(zip(names, called, strict=True)):
            yield load_picture(files[one], f"picture {title} (frame {number})")

    return _survey(read, None, f"the folder {name}" if name else "the folder", called)


def open_video(path: Path, name: str = "", threads: int = 1) -> Video:
    """Open a video file.

    Frames are turned the way the file says, as players do it.

    Args:
        path: A file of one of the `CONTAINERS`.
        name: What errors call it; the file's own name unless told.
        threads: How many threads the decoder may use.

    Raises:
        StageError: The file is missing, is none of the `CONTAINERS`, is no video, has fewer than
            two frames, a frame cannot be decoded, or the size changes on the way (exit code 2).
    """
    name = name or path.name
    if not path.is_file() or path.stat().st_size == 0:
        raise _refuse(
            f"The video {name} is empty." if path.is_file() else f"There is no video {name}.",
            "The file has no bytes." if path.is_file() else f"No file has the name {path}.",
            "Check the path, or copy the file again.",
        )
    with _open(path, name) as container:
        rate = container.streams.video[0].average_rate
    return _survey(lambda: _decode(path, name, threads), rate, f"the video {name}")


@contextmanager
def write_video(
    path: Path, rate: Fraction | None, threads: int
) -> Iterator[Callable[[Pixels], None]]:
    """Write H.264 in an MP4 file, in the colour format that every player knows (yuv420p).

    That format halves colours both ways, so a row or a column is added where a side is odd. The
    colours are those of BT.709 in its limited range, and the file says so: players guess where a
    file does not, and by its size.

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
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.color_primaries = ColorPrimaries.BT709
        stream.codec_context.color_trc = ColorTrc.BT709
        sized = False

        def write(pixels: Pixels) -> None:
            nonlocal sized
            odd_rows, odd_columns = pixels.shape[0] % 2, pixels.shape[1] % 2
            even = np.pad(pixels, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
            if not sized:
                stream.height, stream.width = even.shape[:2]
                sized = True
            frame = VideoFrame.from_ndarray(even, format="rgb24").reformat(
                format="yuv420p",
                src_color_range=ColorRange.JPEG,
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                threads=threads,
            )
            container.mux(stream.encode(frame))

        yield write
        if sized:
            container.mux(stream.encode(None))


def _survey(
    read: Callable[[], Iterator[Pixels]],
    rate: Fraction | None,
    name: str,
    pictures: Sequence[str] = (),
) -> Video:
    """Read everything once: counts, and compare sizes."""
    frames, size = 0, (0, 0)
    for pixels in read():
        found = (pixels.shape[0], pixels.shape[1])
        if frames == 0:
            size = found
        if found != size:
            picture = f" ({pictures[frames]})" if pictures else ""
            raise _refuse(
                f"The size changes at frame {frames}{picture} of {name}.",
                f"It has {found[1]} x {found[0]} pixels, the frames before {size[1]} x {size[0]}.",
                "Cut the video there, or bring all frames to one size.",
            )
        frames += 1
        if frames % _REPORT_EVERY == 0:
            report_progress(None, f"reading through {name}: {frames} frames")
    if frames == 0:
        raise _refuse(
            f"There is no frame in {name}.",
            "It holds no picture.",
            "Give a video file, or a folder with a picture for each frame.",
        )
    if frames == 1:
        raise _refuse(
            f"There is only one frame in {name}.",
            "There is nothing to track: objects are followed from frame to frame.",
            "Use invoke predict for a single picture.",
        )
    return Video(frames=frames, height=size[0], width=size[1], rate=rate, read=read)


@contextmanager
def _open(path: Path, name: str) -> Iterator[Any]:
    only = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path}", container_options=only)
    except av.ArgumentError as error:  # what a format that is not listed comes to
        raise _refuse(
            f"The video {name} is of a kind that is not read.",
            "It is a list of other files, a text, a single picture or a rare format, or its "
            "beginning is damaged.",
            "Bring it into an MP4 or MKV file, or give a folder with a picture for each frame.",
        ) from error
    except (av.FFmpegError, ValueError) as error:
        raise _refuse(
            f"The video {name} cannot be opened.",
            f"FFmpeg says: {_reason(error)}",
            "Give a video file such as MP4, or a folder with a picture for each frame.",
        ) from error
    with container:
        if not container.streams.video:
            kinds = sorted({stream.type for stream in container.streams})
            raise _refuse(
                f"There is no video in {name}.",
                f"The file holds {', '.join(kinds) or 'no stream'}.",
                "Give a file with moving pictures.",
            )
        yield container


def _decode(path: Path, name: str, threads: int) -> Iterator[Pixels]:
    number = 0
    with _open(path, name) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        try:
            for stored, packet in enumerate(container.demux(stream)):
                if packet.is_corrupt:
                    raise _undecodable(
                        name, stored, "Its data is cut short, or part of it is lost."
                    )
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise _undecodable(name, number, "Its data is damaged.")
                    yield _upright(frame, threads)
                    number += 1
        except av.FFmpegError as error:
            raise _undecodable(name, number, f"FFmpeg says: {_reason(error)}") from error


def _upright(frame: VideoFrame, threads: int) -> Pixels:
    pixels = frame.to_ndarray(format="rgb24", threads=threads)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)), dtype=np.uint8)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return runs of digits as numbers, between runs of anything else."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, name)]


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).strip()[:300]


def _undecodable(name: str, number: int, why: str) -> StageError:
    """Say near: data lies in another order than it is shown, and threads decode ahead."""
    return _refuse(
        f"The video {name} cannot be decoded near frame {number}.",
        why,
        "Copy or download the file again, or cut the video before that frame.",
    )


def _refuse(what: str, why: str, next: str) -> StageError:  # noqa: A002
    return StageError(what, why, next, exit_code=BAD_INPUT)
