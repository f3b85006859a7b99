"""SAM 2's part of the stage `predict`: a picture segmented by prompts, and the masks drawn."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.media.drawing import Drawing, Request
from exporters.media.overlay import Drawn, canvas_size, caption_masks, draw_masks
from exporters.media.pictures import masks_to_picture
from exporters.media.prompts import PromptSet, read_prompts
from exporters.protocol import report_progress
from exporters.sam2.image.predictor import Prediction, open_graphs

TAKES_PROMPTS: Final = True


def predict(request: Request) -> Drawing:
    """Segment a picture.

    The best of the masks that a prompt set yields is the one with the highest predicted IoU.

    Returns:
        The picture at 768 to 2048 pixels with masks and prompts, scores below, and `mask`: uint8
        [H, W], 255 where any of the best masks is. The figures' `predictions` are those of each
        prompt set.

    Raises:
        StageError: A prompt cannot be used (exit code 2), or a graph fails.
    """
    height, width = request.picture.shape[:2]
    prompts = read_prompts(request.params, request.inputs.get("mask"), height, width)
    predictor = open_graphs(request.contract, request.files, request.threads)
    predictions = predictor.predict(request.picture, prompts)

    report_progress(None, "drawing")
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
    return Drawing(
        overlay=draw_masks(request.picture, drawn),
        captions=caption_masks(drawn),
        pictures={"mask": union.astype(np.uint8) * np.uint8(255)},
        says=[
            f"{one['prompt']}: predicted IoU {one['score']:.3f}, "
            f"covers {one['coverage']:.1%} of the picture"
            for one in found
        ],
        figures={"predictions": found},
        seconds=predictor.seconds,
    )


def _figures(
    prompt: PromptSet, prediction: Prediction, score: float, coverage: float
) -> dict[str, Any]:
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
    """Return the mask at the drawing's own resolution, so that its edge is smooth there."""
    return Drawn(
        mask=masks_to_picture(logits, *canvas_size(height, width))[0] > 0,
        points=prompt.points,
        box=prompt.box,
        caption=f"from {prompt.describe()}: predicted IoU {score:.3f}, "
        f"covers {_percent(coverage)} of the picture",
    )


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"
