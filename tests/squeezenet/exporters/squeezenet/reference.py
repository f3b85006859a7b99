"""SqueezeNet's part of `reference`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from exporters.squeezenet.network import load
from numpy.typing import NDArray

from exporters.media.pictures import load_picture, preprocess


def compute(
    params: Mapping[str, Any], weights: Path, pictures: Mapping[str, Path], seed: int
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The scores of every picture; arrays PICTURE/image and PICTURE/scores."""
    del seed
    network, side = load(params, weights), params["side"]
    tensors: dict[str, NDArray[Any]] = {}
    for name, path in pictures.items():
        image = preprocess(load_picture(path), side, side)
        tensors[f"{name}/image"] = image
        tensors[f"{name}/scores"] = network(torch.from_numpy(image)).numpy()
    counts = {"pictures": len(pictures), "cases": len(pictures)}
    return {"pictures": list(pictures), "counts": counts}, tensors
