"""Toy tracking: what it was given, told again for each frame."""

import json

from exporters.toy.behaviour import behave

from exporters.protocol import BAD_INPUT, Result, StageError, Step, report_progress


def run(step: Step) -> Result:
    """Writes overlay.mp4 or overlay/NNNNN.png, perhaps masks/NNNNN.png, and tracks.jsonl: texts.

    A video is a text with a frame in each line; a folder has a text in each picture.
    """
    behave(step)
    assert step.provider().GREETING == "here I am"
    pictures = sorted(name for name in step.inputs if name.startswith("frames/"))
    if pictures:
        frames = [f"{name} {step.input(name).read_text()}" for name in pictures]
    else:
        frames = step.input("video").read_text().splitlines()
    if "broken" in frames:
        raise StageError("Frame 1 is broken.", "It says so.", "Fix it.", exit_code=BAD_INPUT)
    words = step.input("words.txt").read_text()
    outputs: list[str] = []
    wanted = {"overlay": not step.param("as_video"), "masks": step.param("masks")}
    for room in (name for name, is_wanted in wanted.items() if is_wanted):
        for number, frame in enumerate(frames):
            report_progress(number / len(frames), f"frame {number}")
            _write(step, f"{room}/{number:05d}.png", f"{words} {frame}", outputs)
    if step.param("as_video"):
        _write(step, "overlay.mp4", "\n".join([words, *frames]), outputs)
    numbers = sorted({one["object"] for one in step.param("prompts")})
    tracks = [
        {
            "object": number,
            "frame": frame,
            "iou": 0.9,
            "occlusion": 4.0,
            "visible": frame != 1,
            "coverage": 0.25,
        }
        for frame in range(len(frames))
        for number in numbers
    ]
    _write(step, "tracks.jsonl", "".join(f"{json.dumps(one)}\n" for one in tracks), outputs)
    objects = [
        {
            "object": number,
            "first_frame": 0,
            "frames": len(frames),
            "visible": len(frames) - 1,
            "coverage": 0.25,
            "iou": 0.9,
        }
        for number in numbers
    ]
    metrics = {
        "video": {"frames": len(frames), "height": 3, "width": 4},
        "objects": objects,
        "random_weights": step.param("random_weights"),
        "seconds": {"session_load": 0.5, "words": {"median": 1.5, "runs": len(frames)}},
        "given": json.loads(json.dumps(dict(step.params))),
    }
    return Result(outputs=outputs, metrics=metrics)


def _write(step: Step, name: str, text: str, outputs: list[str]) -> None:
    path = step.out / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    outputs.append(name)
