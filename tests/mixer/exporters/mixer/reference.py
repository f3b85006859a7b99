"""The mixer's part of `reference`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from exporters.mixer.network import load
from numpy.typing import NDArray

from exporters.media.pictures import load_picture, preprocess


def compute(
    params: Mapping[str, Any], weights: Path, pictures: Mapping[str, Path], seed: int
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The tokens of every picture; arrays PICTURE/image and PICTURE/tokens."""
    del seed
    network = load(params, weights)
    tensors: dict[str, NDArray[Any]] = {}
    for name, path in pictures.items():
        image = preprocess(load_picture(path), 64, 64)
        tensors[f"{name}/image"] = image
        tensors[f"{name}/tokens"] = network(torch.from_numpy(image)).contiguous().numpy()
    counts = {"pictures": len(pictures), "cases": len(pictures)}
    return {"pictures": list(pictures), "counts": counts}, tensors
