"""`invoke track`: objects followed through a video by a built target."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import check_files, find_manifest, target_folder
from modelkiln.building.once import run_once, stage_modules
from modelkiln.building.prepare import prepare
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import RandomWeights
from modelkiln.commands.track_prompts import read_video_prompts
from modelkiln.errors import UsageError
from modelkiln.util import console
from modelkiln.util.places import deliver_file, deliver_folder, require_place

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm")
VIDEO = ".mp4"
# No folder of frames is meant by a name that ends so.
OTHER_VIDEOS = (
    ".3gp", ".apng", ".asf", ".avi", ".flv", ".gif", ".h264", ".h265", ".hevc", ".m2ts", ".m4v",
    ".mkv", ".mov", ".mpeg", ".mpg", ".mts", ".mxf", ".ogg", ".ogv", ".qt", ".ts", ".vob", ".webm",
    ".wmv", ".y4m",
)  # fmt: skip
TRACKS = "tracks.jsonl"
MEMORY = 6_000_000_000
# How long a video takes is not known before; each frame is told while it runs.
TIMEOUT_S = 30 * 86_400


def track_video(
    kiln: Kiln,
    text: str,
    video: str,
    *,
    boxes: Sequence[str] = (),
    points: Sequence[str] = (),
    out: str = "overlay.mp4",
    masks: str = "",
    as_json: bool = False,
) -> None:
    """Follow objects through a video and write it with them drawn, and perhaps the masks.

    Args:
        video: A video file, or a folder of pictures.
        out: A file that ends in .mp4, or a folder for PNG frames.
        masks: A folder for PNG masks whose pixels are objects' numbers; none are made without.
        as_json: Print what the stage found, with the figures of each object on each frame.

    Raises:
        UsageError: the target is not built or cannot track, or the video, a prompt or a
            place for the results is wrong.
    """
    target = prepare(kiln, text, runs=False).target
    modules = stage_modules(kiln, target, "track")
    prompts = read_video_prompts(boxes, points)
    inputs = find_frames(Path(video))
    places = _places(Path(video), out, masks)
    check_files(kiln, target, find_manifest(kiln, target))
    params: dict[str, Any] = {
        "contract": dict(target.golden),
        "prompts": [one.document() for one in prompts],
        "random_weights": isinstance(target.weights, RandomWeights),
        "video_name": video,
        "as_video": _is_video(out),
        "masks": bool(masks),
    }
    if "video" not in inputs:
        params["frame_names"] = [path.name for path in inputs.values()]
    found = _track(kiln, target, modules, params, inputs, places, as_json=as_json)
    if as_json:
        console.say_json(found)
        return
    for line in describe(found):
        console.say(line)
    if target.warning:
        console.say(target.warning)
    console.say(f"overlay  {out}")
    if masks:
        console.say(f"masks    {masks}")


def find_frames(video: Path) -> dict[str, Path]:
    """Return the stage's inputs: `video`, or `frames/00000.jpg` and so on, numbered in natural
    order.

    Raises:
        UsageError: There is nothing to follow anything through.
    """
    if not video.exists():
        raise UsageError(
            f"There is no video {video}.",
            "The path is wrong.",
            "Name a video file, or a folder of pictures.",
        )
    if not video.is_dir():
        if not video.is_file() or not video.stat().st_size:
            raise UsageError(
                f"{video} is not a video.",
                "It is empty." if video.is_file() else "It is not a plain file.",
                "Name a video file, or a folder of pictures.",
            )
        return {"video": video}
    files = [one for one in video.iterdir() if one.is_file() and not one.name.startswith(".")]
    frames = sorted((one for one in files if one.suffix.lower() in PICTURES), key=_natural)
    if not frames:
        raise UsageError(
            f"There is no picture in {video}.",
            f"Of {len(files)} files none ends in {', '.join(PICTURES)}.",
            "Name a folder of pictures, or a video file.",
        )
    if len(frames) == 1:
        raise UsageError(
            f"There is one picture in {video}, and nothing to follow.",
            "A video has at least two frames.",
            f"invoke predict segments a single picture: {frames[0]}",
        )
    if others := len(files) - len(frames):
        console.note(f"left out {others} of {len(files)} files of {video}: no pictures")
    width = max(5, len(str(len(frames) - 1)))
    return {f"frames/{n:0{width}d}{one.suffix.lower()}": one for n, one in enumerate(frames)}


def describe(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the stage found, a line for each object."""
    video = metrics["video"]
    yield f"{video['frames']} frames of {video['width']} x {video['height']} pixels"
    for one in metrics["objects"]:
        yield (
            f"object {one['object']}: from frame {one['first_frame']}, visible on "
            f"{one['visible']} of {one['frames']}, covers {one['coverage']:.1%} of a frame "
            "on average"
        )
    graphs = {name: one for name, one in metrics["seconds"].items() if name != "session_load"}
    runs = (f"{name} {one['runs']} x {one['median']:.2f} s" for name, one in graphs.items())
    yield f"graphs   {', '.join(runs)}"


def _track(
    kiln: Kiln,
    target: Target,
    modules: tuple[str, str],
    params: Mapping[str, Any],
    frames: Mapping[str, Path],
    places: Mapping[str, Path],
    *,
    as_json: bool,
) -> dict[str, Any]:
    """Return the stage's metrics, with `tracks` for a document; its files are in their places
    then.
    """
    folder = target_folder(kiln, target)
    with run_once(
        kiln,
        f"track {Path(params['video_name']).name}",
        environment=target.model.environment,
        modules=modules,
        params=params,
        inputs={**{name: folder / name for name in target.graph_files}, **frames},
        timeout_s=TIMEOUT_S,
        memory=MEMORY,
    ) as outcome:
        found = dict(outcome.metrics)
        if as_json:
            with outcome.outputs[TRACKS].open(encoding="utf-8") as lines:
                found["tracks"] = [json.loads(line) for line in lines]
        for room, place in places.items():
            if room == "overlay" and params["as_video"]:
                deliver_file(outcome.outputs[f"{room}{VIDEO}"], place)
                continue
            made = {
                name.removeprefix(f"{room}/"): path
                for name, path in outcome.outputs.items()
                if name.startswith(f"{room}/")
            }
            deliver_folder(made, place)
        return found


def _is_video(out: str) -> bool:
    return Path(out).suffix.lower() == VIDEO


def _places(video: Path, out: str, masks: str) -> dict[str, Path]:
    """Return where `overlay` and perhaps `masks` go."""
    overlay = Path(out)
    if overlay.suffix.lower() in OTHER_VIDEOS:
        raise UsageError(
            f"--out {out} cannot be written.",
            f"A video is written as {VIDEO} only, not as {overlay.suffix}.",
            f"Name a file that ends in {VIDEO}, or a folder for PNG frames.",
        )
    if masks:
        one, other = overlay.resolve(), Path(masks).resolve()
        if one == other or one in other.parents or other in one.parents:
            raise UsageError(
                f"--masks {masks} and --out {out} lie in one another.",
                "Each is put in its place as a whole.",
                "Name two places beside each other.",
            )
    if overlay.exists() and overlay.resolve() == video.resolve():
        raise UsageError(
            f"--out {out} is the video itself.", "It would be lost.", "Name another place."
        )
    places = {"overlay": require_place(overlay, "--out", folder=not _is_video(out))}
    if masks:
        places["masks"] = require_place(Path(masks), "--masks", folder=True)
    return places


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Return a key that sorts 2 before 10, as people count."""
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [(int(one), "") if one.isdecimal() else (-1, one) for one in parts], path.name
