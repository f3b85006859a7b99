"""`invoke predict`: what a built target makes of a picture."""

from collections.abc import Sequence
from pathlib import Path

from modelkiln.building.kiln import Kiln
from modelkiln.building.predict import picture_path, predict
from modelkiln.building.prepare import prepare
from modelkiln.errors import UsageError
from modelkiln.util import console


def predict_picture(
    kiln: Kiln,
    text: str,
    image: str,
    *,
    points: Sequence[str] = (),
    boxes: Sequence[str] = (),
    mask: str = "",
    out: str = "overlay.png",
    as_json: bool = False,
) -> None:
    """Run a target on a picture; write the overlay, and its other pictures beside it.

    Raises:
        UsageError: the target is not built or not made for it, or the picture or a prompt is wrong.
    """
    target = prepare(kiln, text, runs=False).target
    overlay = Path(out)
    if overlay.suffix.lower() != ".png":
        raise UsageError(
            f"--out {out} is not a PNG.",
            "The overlay is written as PNG.",
            f"--out {overlay.stem}.png",
        )
    metrics = predict(
        kiln,
        target,
        Path(image),
        points=[read_numbers(one, "point", (2, 3)) for one in points],
        boxes=[read_numbers(one, "box", (4,)) for one in boxes],
        mask=Path(mask) if mask else None,
        overlay=overlay,
    )
    if as_json:
        console.say_json(metrics)
        return
    for line in metrics["says"]:
        console.say(line)
    if target.warning:
        console.say(target.warning)
    for name in metrics["pictures"]:
        console.say(f"{name:<8} {picture_path(overlay, name)}")


def read_numbers(text: str, kind: str, counts: tuple[int, ...]) -> list[float]:
    """Return the numbers of a prompt.

    Raises:
        UsageError: it is malformed.
    """
    try:
        numbers = [float(one) for one in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in counts or not all(abs(one) < 1e9 for one in numbers):
        form = "x,y or x,y,label" if kind == "point" else "x0,y0,x1,y1"
        raise UsageError(
            f"--{kind} {text!r} is not a {kind}.",
            f"It is written {form}, in pixels of the picture.",
            f"For example: --{kind} {'120,80' if kind == 'point' else '40,30,220,180'}",
        )
    return numbers
