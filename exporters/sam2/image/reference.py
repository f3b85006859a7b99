"""The still-image contracts' part of `reference`: Meta's own `SAM2ImagePredictor`."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.media.pictures import load_picture, resize
from exporters.protocol import report_progress
from exporters.sam2.image.prompts import Floats, Prompts, make_prompts
from exporters.sam2.model import load_model, require_eval

FEATURES: Final = ("high_res_feats_0", "high_res_feats_1", "image_embed")
_ON_PLAIN: Final = ("one point", "a box and points", "two sets", "three sets, one mask")

Arrays = dict[str, NDArray[Any]]


def compute(
    params: Mapping[str, Any], weights: Path, pictures: Mapping[str, Path], seed: int
) -> tuple[dict[str, Any], Arrays]:
    """Compute the features of every picture, and masks for every kind of prompt on it.

    The predictor is given the picture already squashed to its size, where its own Resize does
    nothing: what is compared is the network, on equal pixels. Beside the photographs there are a
    black, a white and a noise picture, with a few of the prompts.

    Arrays: PICTURE/picture uint8 [S, S, 3]; PICTURE/<feature> float32, as the encoder's outputs;
    PICTURE/PROMPT/{point_coords, point_labels, mask_input, has_mask_input}, as the decoder's
    inputs; PICTURE/PROMPT/{masks, iou_predictions}, as its outputs; PICTURE/PROMPT/inside uint8
    [N, 3, S, S/8], the predictor's masks at the size of the picture, eight pixels a byte.
    """
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    sam: Any = load_model(params["config"], params["overrides"], weights)
    predictor: Any = SAM2ImagePredictor(sam)
    size = int(sam.image_size)
    predictor._bb_feat_sizes = [(size // stride, size // stride) for stride in (4, 8, 16)]
    squares = {name: resize(load_picture(path), size, size) for name, path in pictures.items()}
    squares |= _plain_pictures(size, seed)
    tensors: Arrays = {}
    described: list[dict[str, Any]] = []
    for index, (name, square) in enumerate(squares.items()):
        report_progress(index / len(squares), f"running the unpatched model on {name}")
        require_eval(sam)
        predictor.set_image(square)
        tensors[f"{name}/picture"] = square
        features = predictor._features
        for feature, value in zip(
            FEATURES, (*features["high_res_feats"], features["image_embed"]), strict=True
        ):
            tensors[f"{name}/{feature}"] = _array(value)
        prompts = make_prompts(size, _generator(seed, name))
        if name not in pictures:
            prompts = tuple(prompt for prompt in prompts if prompt.name in _ON_PLAIN)
        for prompt in prompts:
            for key, value in _predict(predictor, prompt, tensors.get(f"{name}/hint")).items():
                tensors[f"{name}/{prompt.name}/{key}"] = value
            if f"{name}/hint" not in tensors:
                tensors[f"{name}/hint"] = tensors[f"{name}/{prompt.name}/masks"][0]
        del tensors[f"{name}/hint"]
        described.append(
            {
                "name": name,
                "photograph": name in pictures,
                "prompts": [
                    {"name": prompt.name, "sets": prompt.sets, "masks": list(prompt.masks)}
                    for prompt in prompts
                ],
            }
        )
    require_eval(sam)
    return {"size": size, "pictures": described}, tensors


def _predict(predictor: Any, prompt: Prompts, hint: NDArray[Any] | None) -> Arrays:
    """Run one call, or one for each set where only some bring a mask; `hint` is [3, h, w]."""
    side = 4 * predictor.model.sam_image_embedding_size
    coords, labels = prompt.decoder_points()
    mask_input = np.zeros((prompt.sets, 1, side, side), np.float32)
    for index, brings in enumerate(prompt.masks):
        if brings and hint is not None:
            mask_input[index, 0] = hint[index]
    if len(set(prompt.masks)) == 1:
        groups = [slice(0, prompt.sets)]
    else:
        groups = [slice(index, index + 1) for index in range(prompt.sets)]
    parts = [_call(predictor, prompt, mask_input, group) for group in groups]
    inside, scores, masks = (np.concatenate(part) for part in zip(*parts, strict=True))
    return {
        "point_coords": coords,
        "point_labels": labels,
        "mask_input": mask_input,
        "has_mask_input": np.array(prompt.masks, np.float32),
        "masks": masks,
        "iou_predictions": scores,
        "inside": np.packbits(inside, axis=-1),
    }


def _call(
    predictor: Any, prompt: Prompts, mask_input: Floats, group: slice
) -> tuple[NDArray[np.bool_], Floats, Floats]:
    sets = group.stop - group.start

    def part(values: Floats | None) -> Floats | None:
        return None if values is None else values[group]

    inside, scores, masks = predictor.predict(
        point_coords=part(prompt.points),
        point_labels=part(prompt.labels),
        box=part(prompt.boxes),
        mask_input=mask_input[group] if prompt.masks[group.start] else None,
        multimask_output=True,
    )
    return (
        np.asarray(inside > 0).reshape(sets, 3, *inside.shape[-2:]),
        np.asarray(scores, np.float32).reshape(sets, 3),
        np.asarray(masks, np.float32).reshape(sets, 3, *masks.shape[-2:]),
    )


def _plain_pictures(size: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    noise = _generator(seed, "noise").integers(0, 256, (size, size, 3), dtype=np.uint8)
    return {
        "black": np.zeros((size, size, 3), np.uint8),
        "white": np.full((size, size, 3), 255, np.uint8),
        "noise": noise,
    }


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def _array(value: Any) -> Floats:
    return np.ascontiguousarray(value.numpy(), np.float32)
