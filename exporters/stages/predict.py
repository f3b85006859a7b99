"""The stage that shows what a target's own graphs make of one picture."""

from typing import Any, Final

import onnxruntime
from PIL import Image

from exporters.media.drawing import Drawing, Request
from exporters.media.pictures import load_picture
from exporters.media.sheet import draw_sheet, random_weights_banner
from exporters.protocol import BAD_INPUT, Result, StageError, Step

PICTURE, OVERLAY = "picture", "overlay"

_PROMPTS: Final = {"points": "--point", "boxes": "--box", "mask": "--mask"}


def run(step: Step) -> Result:
    """Run a target on a picture.

    Inputs: the contract's graph files, `picture`, and perhaps `mask`. Parameters: `contract`
    (golden, with its graphs), `random_weights`, and perhaps `points` ([[x, y, label]]), `boxes`
    ([[x0, y0, x1, y1]]) and `picture_name`, the file's name for errors. The family's module gives
    `predict(request: Request) -> Drawing`, and `TAKES_PROMPTS = True` if it reads prompts from the
    request; where it does not, prompts are refused.

    Outputs: `overlay.png`, with captions and, where the weights are random, a banner; NAME.png for
    each of the family's other pictures. The metrics hold their names as `pictures`, the overlay
    first.

    Raises:
        StageError: The picture or a prompt cannot be used (exit code 2), or a graph fails.
    """
    contract = step.param("contract")
    random_weights = bool(step.param("random_weights"))
    family: Any = step.provider()
    if not getattr(family, "TAKES_PROMPTS", False):
        _refuse_prompts(step, contract["name"])

    given = step.params.get("picture_name", "")
    picture = load_picture(step.input(PICTURE), f"picture {given}" if given else "")
    request = Request(
        contract=contract,
        files={graph["name"]: step.input(graph["file"]) for graph in contract["graphs"]},
        picture=picture,
        params=step.params,
        inputs=step.inputs,
        threads=step.threads,
    )
    drawing: Drawing = family.predict(request)
    banner = random_weights_banner(contract) if random_weights else ""
    sheet = draw_sheet(drawing.overlay, drawing.captions, banner=banner)
    if OVERLAY in drawing.pictures:
        raise AssertionError(f"{step.modules[1]} has a second picture called {OVERLAY}")
    pictures = {OVERLAY: sheet, **drawing.pictures}
    for name, pixels in pictures.items():
        path = step.out / f"{name}.png"
        Image.fromarray(pixels).save(path, format="PNG", compress_level=6)
    metrics = {
        **drawing.figures,
        "picture": {"height": picture.shape[0], "width": picture.shape[1]},
        "pictures": list(pictures),
        "says": list(drawing.says),
        "random_weights": random_weights,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "seconds": {name: round(value, 4) for name, value in drawing.seconds.items()},
        "threads": step.threads,
    }
    return Result(outputs=[f"{name}.png" for name in pictures], metrics=metrics)


def _refuse_prompts(step: Step, contract: str) -> None:
    given = [
        flag for name, flag in _PROMPTS.items() if step.params.get(name) or name in step.inputs
    ]
    if given:
        raise StageError(
            f"The contract {contract} takes no prompts.",
            "Its graphs see the picture and nothing else.",
            f"Leave out {' and '.join(given)}.",
            exit_code=BAD_INPUT,
        )
