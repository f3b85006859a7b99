"""`invoke predict`: a picture segmented by a built target."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelkiln import console
from modelkiln.errors import UsageError
from modelkiln.kiln import Kiln
from modelkiln.once import check_files, find_manifest, one_target, run_once, stage_modules
from modelkiln.publish import target_folder
from modelkiln.target import RandomWeights, Target


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
    """Segment a picture and write the overlay, and the mask beside it.

    Raises:
        UsageError: the target is not built or not made for it, or the picture or a prompt is wrong.
    """
    target = one_target(kiln, text)
    overlay = Path(out)
    if overlay.suffix.lower() != ".png":
        raise UsageError(
            f"--out {out} is no PNG.", "The overlay is written as PNG.", f"--out {overlay.stem}.png"
        )
    if overlay.is_dir() or (overlay.parent.exists() and not overlay.parent.is_dir()):
        raise UsageError(
            f"--out {out} cannot be written.",
            "A folder has this name, or a file stands where its folder should be.",
            "Name another file.",
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
    for found in metrics["predictions"]:
        console.say(
            f"{found['prompt']}: predicted IoU {found['score']:.3f}, "
            f"covers {found['coverage']:.1%} of the picture"
        )
    if metrics["random_weights"]:
        console.say("random weights: this mask means nothing")
    console.say(f"overlay  {overlay}\nmask     {mask_path(overlay)}")


def predict(
    kiln: Kiln,
    target: Target,
    picture: Path,
    *,
    points: Sequence[Sequence[float]],
    boxes: Sequence[Sequence[float]],
    mask: Path | None,
    overlay: Path,
) -> dict[str, Any]:
    """Segment a picture with the files in out/; returns the stage's figures."""
    modules = stage_modules(kiln, target, "predict")
    manifest = find_manifest(kiln, target)
    check_files(kiln, target, manifest)
    if not picture.is_file():
        raise UsageError(
            f"There is no picture {picture}.", "The path is wrong.", "Name a JPEG, PNG or WebP."
        )
    folder = target_folder(kiln, target)
    inputs: dict[str, Path] = {name: folder / name for name in target.contract.graph_files}
    inputs["picture"] = picture
    if mask is not None:
        if not mask.is_file():
            raise UsageError(f"There is no mask {mask}.", "The path is wrong.", "Name a PNG file.")
        inputs["mask"] = mask
    params: Mapping[str, Any] = {
        "contract": target.contract.golden,
        "points": [[*one, 1] if len(one) == 2 else list(one) for one in points],
        "boxes": [list(one) for one in boxes],
        "random_weights": isinstance(target.weights, RandomWeights),
        "picture_name": str(picture),
    }
    with run_once(
        kiln,
        f"predict {picture.name}",
        environment=target.model.environment,
        modules=modules,
        params=params,
        inputs=inputs,
        timeout_s=600,
    ) as outcome:
        overlay.parent.mkdir(parents=True, exist_ok=True)
        for name, place in (("overlay.png", overlay), ("mask.png", mask_path(overlay))):
            part = place.with_name(f".{place.name}.part")
            shutil.copyfile(outcome.outputs[name], part)
            part.replace(place)
        return dict(outcome.metrics)


def mask_path(overlay: Path) -> Path:
    """Where the mask of an overlay lies."""
    return overlay.with_name(f"{overlay.stem}.mask.png")


def read_numbers(text: str, kind: str, counts: tuple[int, ...]) -> list[float]:
    """The numbers of a prompt.

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
            f"--{kind} {text!r} is no {kind}.",
            f"It is written {form}, in pixels of the picture.",
            f"For example: --{kind} {'120,80' if kind == 'point' else '40,30,220,180'}",
        )
    return numbers
