"""The feature contracts' part of `reference`: timm's own network, built at the pictures' size.

Given Meta's position table, it computes what Meta's `forward_features` does.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from exporters.dinov2.model import build_model, fill, read_size
from exporters.media.pictures import load_picture, normalize, resize
from exporters.protocol import report_progress

_OFFSET: Final = 0.1

Arrays = dict[str, NDArray[Any]]


def compute(
    params: Mapping[str, Any], weights: Path, pictures: Mapping[str, Path], seed: int
) -> tuple[dict[str, Any], Arrays]:
    """Return the tokens of every photograph, and of a black, a white and a noise picture.

    Reads the settings of a model and `size`. Each picture is squashed to that size first: what is
    compared is the network, on equal pixels.

    Arrays: PICTURE/picture uint8 [H, W, 3]; after the final norm, PICTURE/cls_token float32
    [1, D], PICTURE/register_tokens [1, R, D] where the model has registers, and
    PICTURE/patch_tokens [1, P, D], the patches row by row.
    """
    height, width = size = read_size(params["size"])
    network: Any = build_model(params, size)
    state = safetensors.torch.load_file(weights)
    state["pos_embed"] = interpolate_positions(
        state["pos_embed"], network.patch_embed.grid_size, params
    )
    fill(network, state)
    squashed = {
        name: resize(load_picture(path), height, width, Image.Resampling.BICUBIC)
        for name, path in pictures.items()
    }
    squashed |= _plain_pictures(height, width, seed)
    tensors: Arrays = {}
    for index, (name, picture) in enumerate(squashed.items()):
        report_progress(index / len(squashed), f"running the unpatched model on {name}")
        tokens = network.forward_features(torch.from_numpy(normalize(picture)))
        tensors[f"{name}/picture"] = picture
        for output, value in _split(tokens, int(params["registers"])).items():
            tensors[f"{name}/{output}"] = np.ascontiguousarray(value.numpy(), np.float32)
    if network.training:
        raise AssertionError("the network is in training mode")
    document = {
        "size": list(size),
        "pictures": [{"name": name, "photograph": name in pictures} for name in squashed],
        "counts": {"pictures": len(squashed), "cases": len(squashed)},
    }
    return document, tensors


def _split(tokens: Tensor, registers: int) -> dict[str, Tensor]:
    """Split tokens [1, 1 + R + P, D] by their kinds."""
    kinds = {"cls_token": tokens[:, 0], "patch_tokens": tokens[:, 1 + registers :]}
    return {**kinds, "register_tokens": tokens[:, 1 : 1 + registers]} if registers else kinds


def interpolate_positions(
    table: Tensor, grid: tuple[int, int], params: Mapping[str, Any]
) -> Tensor:
    """Return the position table [1, 1 + n * n, D] for a grid of patches, by PyTorch, as Meta calls
    it.

    It shares nothing with `exporters.dinov2.position`, whose values it is to judge.
    """
    side = int(params["native"]) // int(params["patch"])
    if grid == (side, side):
        return table
    places = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if params["registers"]:
        resampled = torch.nn.functional.interpolate(
            places, size=grid, mode="bicubic", antialias=True
        )
    else:
        factors = tuple((wanted + _OFFSET) / side for wanted in grid)
        resampled = torch.nn.functional.interpolate(places, scale_factor=factors, mode="bicubic")
    return torch.cat((table[:, :1], resampled.permute(0, 2, 3, 1).flatten(1, 2)), dim=1)


def _plain_pictures(height: int, width: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    digest = hashlib.sha256(f"{seed}\0noise".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
    shape = (height, width, 3)
    return {
        "black": np.zeros(shape, np.uint8),
        "white": np.full(shape, 255, np.uint8),
        "noise": generator.integers(0, 256, shape, dtype=np.uint8),
    }
