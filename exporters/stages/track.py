"""The stage that follows objects through a video with a target's own graphs and draws them."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from exporters.graphs.sessions import Sessions
from exporters.media.object_prompts import (
    LARGEST_NUMBER,
    ObjectPrompt,
    check_numbers,
    read_object_prompts,
)
from exporters.media.overlay import Drawn, canvas_size, draw_overlay, object_tint
from exporters.media.pictures import masks_to_picture
from exporters.media.sheet import random_weights_banner
from exporters.media.video import Pixels, Video, open_pictures, open_video, write_video
from exporters.protocol import Result, StageError, Step, report_progress

VIDEO, FRAMES = "video", "frames/"
OVERLAY, MASKS, TRACKS = "overlay", "masks", "tracks.jsonl"


def run(step: Step) -> Result:
    """Track objects through a video.

    Inputs: the contract's .onnx files, and either `video` or pictures named `frames/NAME`, whose
    names give the order. Parameters: `contract` (golden, with its graphs), `prompts` (a list of
    {object, frame, points: [[x, y, label]], box: [x0, y0, x1, y1] or null}), `random_weights`,
    `as_video`, `masks` (whether they are written), and perhaps what errors call the video
    (`video_name`) and a folder's pictures (`frame_names`, in order). The earliest prompt of an
    object starts it, later ones correct it. The family's module gives `check_prompts(contract,
    prompts)` and `open_tracker(contract, run, num_frames)`, whose result has `start_frame`,
    `prompt` and `track`.

    Outputs: `overlay.mp4` or `overlay/00000.png` ..., with masks, numbers and prompts, bare
    before the first prompt; `tracks.jsonl`, a line {object, frame, iou, occlusion, visible,
    coverage} for each object on each frame from its first; and where asked `masks/00000.png` ...,
    8-bit with a palette, each pixel the number of the object that it belongs to, the largest where
    it belongs to several. The metrics' `objects` sum the lines up, object by object.

    Raises:
        StageError: The video or a prompt cannot be used (exit code 2), or a graph fails.
    """
    contract = step.param("contract")
    asked = step.param("prompts")
    random_weights, as_video = bool(step.param("random_weights")), bool(step.param("as_video"))
    with_masks = bool(step.param("masks"))
    check_numbers(asked)
    provider = step.provider()
    provider.check_prompts(contract, [(one["object"], one["frame"]) for one in asked])
    video = _open(step)
    prompts = read_object_prompts(asked, video.frames, video.height, video.width)

    report_progress(0.0, "loading the graphs")
    files = {graph["name"]: step.input(graph["file"]) for graph in contract["graphs"]}
    sessions = Sessions(files, step.threads, contract.get("session", {}))
    tracker = provider.open_tracker(contract, sessions.run, video.frames)

    banner = random_weights_banner(contract) if random_weights else ""
    outputs = [TRACKS]
    tallies: dict[int, _Tally] = {}
    with ExitStack() as stack:
        lines = stack.enter_context((step.out / TRACKS).open("w", encoding="utf-8"))
        write: Callable[[Pixels], None] | None = None
        if as_video:
            outputs.append(f"{OVERLAY}.mp4")
            path = step.out / outputs[-1]
            write = stack.enter_context(write_video(path, video.rate, step.threads))
        for frame, picture in enumerate(video.read()):
            report_progress(frame / video.frames, f"frame {frame + 1} of {video.frames}")
            here = [one for one in prompts if one.frame == frame]
            masks = _segment(tracker, picture, here)
            labels, figures = _label(frame, masks, video)
            for one in figures:
                lines.write(json.dumps(one, allow_nan=False) + "\n")
                tallies.setdefault(one["object"], _Tally(first_frame=frame)).add(one)
            if with_masks:
                outputs.append(f"{MASKS}/{frame:05d}.png")
                _save(step.out / outputs[-1], labels)
            drawn = draw_overlay(picture, _drawings(masks, here, video), banner=banner)
            if write is None:
                outputs.append(f"{OVERLAY}/{frame:05d}.png")
                _save(step.out / outputs[-1], Image.fromarray(drawn))
            else:
                write(drawn)
    metrics = {
        "video": {"frames": video.frames, "height": video.height, "width": video.width},
        "prompts": [_describe(one) for one in prompts],
        "objects": [one.describe(number) for number, one in sorted(tallies.items())],
        "random_weights": random_weights,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "seconds": _seconds(sessions),
        "threads": step.threads,
    }
    return Result(outputs=outputs, metrics=metrics)


@dataclass(kw_only=True)
class _Tally:
    """The figures of one object, summed up over the frames that it was followed on."""

    first_frame: int
    frames: int = 0
    visible: int = 0
    coverage: float = 0.0
    iou: float = 0.0

    def add(self, figures: Mapping[str, Any]) -> None:
        self.frames += 1
        self.visible += bool(figures["visible"])
        self.coverage += figures["coverage"]
        self.iou += figures["iou"]

    def describe(self, number: int) -> dict[str, Any]:
        return {
            "object": number,
            "first_frame": self.first_frame,
            "frames": self.frames,
            "visible": self.visible,
            "coverage": self.coverage / self.frames,
            "iou": self.iou / self.frames,
        }


def _open(step: Step) -> Video:
    frames = {
        name.removeprefix(FRAMES): path
        for name, path in step.inputs.items()
        if name.startswith(FRAMES)
    }
    name = str(step.params.get("video_name", ""))
    titles = step.params.get("frame_names")
    if titles is not None and len(titles) != len(frames):
        raise StageError(
            f"{step.step} was given {len(titles)} names for {len(frames)} pictures.",
            "The parameter frame_names names each picture of a folder, in order.",
            "Report this as a fault of the plan.",
        )
    report_progress(None, "reading through the video")
    if VIDEO in step.inputs:
        return open_video(step.inputs[VIDEO], name, step.threads)
    return open_pictures(frames, name, titles)


def _segment(tracker: Any, picture: Pixels, here: Sequence[ObjectPrompt]) -> dict[int, Any]:
    """Segment one frame: new objects start, all others are followed, corrections come last."""
    tracker.start_frame(picture)
    new = [one for one in here if one.number not in tracker.objects]
    masks = {one.number: _prompt(tracker, one) for one in new}
    masks |= tracker.track()
    masks |= {one.number: _prompt(tracker, one) for one in here if one not in new}
    return dict(sorted(masks.items()))


def _prompt(tracker: Any, one: ObjectPrompt) -> Any:
    return tracker.prompt(one.number, one.prompt.points, one.prompt.box)


def _label(
    frame: int, masks: Mapping[int, Any], video: Video
) -> tuple[Image.Image, list[dict[str, Any]]]:
    """Return the frame's mask, each pixel an object's number, and the figures of each object."""
    labels = np.zeros((video.height, video.width), dtype=np.uint8)
    figures = []
    for number, mask in masks.items():
        inside = _inside(mask, video.height, video.width)
        labels[inside] = number
        figures.append(
            {
                "object": number,
                "frame": frame,
                "iou": mask.iou,
                "occlusion": mask.occlusion,
                "visible": mask.visible,
                "coverage": float(inside.mean()),
            }
        )
    image = Image.fromarray(labels)
    tints = [object_tint(number) for number in range(1, LARGEST_NUMBER + 1)]
    image.putpalette([0, 0, 0, *chain.from_iterable(tints)])
    return image, figures


def _drawings(masks: Mapping[int, Any], here: Sequence[ObjectPrompt], video: Video) -> list[Drawn]:
    """Enlarge masks to the drawing's own resolution, so that their edges are smooth there."""
    prompts = {one.number: one.prompt for one in here}
    size = canvas_size(video.height, video.width)
    return [
        Drawn(
            mask=_inside(mask, *size),
            points=prompts[number].points if number in prompts else (),
            box=prompts[number].box if number in prompts else None,
            number=number,
        )
        for number, mask in masks.items()
    ]


def _inside(mask: Any, height: int, width: int) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = masks_to_picture(mask.logits[np.newaxis], height, width)[0] > 0
    return inside


def _describe(one: ObjectPrompt) -> dict[str, Any]:
    return {
        "object": one.number,
        "frame": one.frame,
        "prompt": one.prompt.describe(),
        "points": [list(point) for point in one.prompt.points],
        "box": list(one.prompt.box) if one.prompt.box else None,
    }


def _seconds(sessions: Sessions) -> dict[str, Any]:
    """Return of each graph the median and the number of its runs."""
    graphs = {
        name: {"median": round(float(np.median(runs)), 4), "runs": len(runs)}
        for name, runs in sessions.run_seconds.items()
        if runs
    }
    return {"session_load": round(sessions.load_seconds, 4), **graphs}


def _save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(exist_ok=True)
    image.save(path, format="PNG", compress_level=6)
