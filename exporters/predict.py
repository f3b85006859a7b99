"""The stage that segments one picture with a target's own graphs and draws the result."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from exporters.overlay import RANDOM_WEIGHTS_BANNER, Drawn, canvas_size, draw_overlay
from exporters.pictures import load_picture, masks_to_picture
from exporters.prompts import PromptSet, read_prompts
from exporters.protocol import Result, Step, report_progress

PICTURE, MASK_PROMPT = "picture", "mask"
OVERLAY, MASK = "overlay.png", "mask.png"


def run(step: Step) -> Result:
    """Segments a picture.

    Inputs: the contract's .onnx files, `picture`, and `mask` if a mask is among the prompts.
    Parameters: `contract` (golden, with its graphs), `points` ([[x, y, label]]), `boxes`
    ([[x0, y0, x1, y1]]), `random_weights`, and perhaps `picture_name`, the file's name for errors.
    The family's module gives `open_graphs(contract, files, threads)`, whose result has
    `predict(picture, prompts)` and `seconds`; a prediction has `logits`, `scores` and `best`.

    Outputs: `mask.png`, the picture's size, 255 where any of the best masks is; `overlay.png`,
    the picture at 768 to 2048 pixels with masks, prompts and scores. The best of the masks that a
    prompt set yields is the one with the highest predicted IoU.

    Raises:
        StageError: The picture or a prompt cannot be used (exit code 2), or a graph fails.
    """
    contract = step.param("contract")
    given = step.params.get("picture_name", "")
    picture = load_picture(step.input(PICTURE), f"picture {given}" if given else "")
    height, width = picture.shape[:2]
    prompts = read_prompts(step.params, step.inputs.get(MASK_PROMPT), height, width)
    files = {graph["name"]: step.input(graph["file"]) for graph in contract["graphs"]}

    predictor = step.provider().open_graphs(contract, files, step.threads)
    predictions = predictor.predict(picture, prompts)

    report_progress(None, "drawing")
    random_weights = bool(step.param("random_weights"))
    union = np.zeros((height, width), dtype=np.bool_)
    drawn: list[Drawn] = []
    found: list[dict[str, Any]] = []
    for prompt, prediction in zip(prompts, predictions, strict=True):
        logits = prediction.logits[prediction.best : prediction.best + 1]
        mask = masks_to_picture(logits, height, width)[0] > 0
        union |= mask
        score, coverage = float(prediction.scores[prediction.best]), float(mask.mean())
        found.append(_figures(prompt, prediction, score, coverage))
        drawn.append(_drawing(prompt, logits, height, width, score, coverage))

    banner = RANDOM_WEIGHTS_BANNER if random_weights else ""
    _save(step.out / MASK, union.astype(np.uint8) * np.uint8(255))
    _save(step.out / OVERLAY, draw_overlay(picture, drawn, banner=banner))
    metrics = {
        "picture": {"height": height, "width": width},
        "predictions": found,
        "random_weights": random_weights,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "seconds": {name: round(value, 4) for name, value in predictor.seconds.items()},
        "threads": step.threads,
    }
    return Result(outputs=[MASK, OVERLAY], metrics=metrics)


def _figures(prompt: PromptSet, prediction: Any, score: float, coverage: float) -> dict[str, Any]:
    return {
        "prompt": prompt.describe(),
        "points": [list(point) for point in prompt.points],
        "box": list(prompt.box) if prompt.box else None,
        "mask": prompt.mask is not None,
        "best": prediction.best,
        "score": score,
        "scores": [float(one) for one in prediction.scores],
        "coverage": coverage,
    }


def _drawing(
    prompt: PromptSet,
    logits: NDArray[np.float32],
    height: int,
    width: int,
    score: float,
    coverage: float,
) -> Drawn:
    """The mask at the drawing's own resolution, so that its edge is smooth there."""
    return Drawn(
        mask=masks_to_picture(logits, *canvas_size(height, width))[0] > 0,
        points=prompt.points,
        box=prompt.box,
        caption=f"from {prompt.describe()}: predicted IoU {score:.3f}, "
        f"covers {_percent(coverage)} of the picture",
    )


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    Image.fromarray(pixels).save(path, format="PNG", compress_level=6)
