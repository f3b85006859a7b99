"""The reference against Meta's own code, where that is there, and what it tells.

$DINOV2_REPOSITORY names the folder: a checkout of github.com/facebookresearch/dinov2, or the copy
that torch.hub leaves in ~/.cache/torch/hub/facebookresearch_dinov2_main. No checkpoint is needed.
"""

import os
import sys
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from exporters.checks.parity import compare_tensors
from exporters.dinov2.features.reference import (
    _plain_pictures,
    _split,
    compute,
    interpolate_positions,
)
from exporters.dinov2.ingest import build_network
from exporters.media.pictures import normalize
from exporters.weights.random import draw_weights
from tests.exporters.dinov2.models import SETTINGS
from tests.exporters.shrunken import ROOT

if "DINOV2_REPOSITORY" in os.environ:
    sys.path.append(os.environ["DINOV2_REPOSITORY"])
NEEDS_META = pytest.mark.skipif(
    find_spec("dinov2") is None, reason="DINOV2_REPOSITORY names no checkout of Meta's repository"
)

MODELS: Final = {"dinov2_vits14": "dinov2_vits14", "dinov2_vits14_reg4": "dinov2_vits14_reg"}
OUTPUTS: Final = {
    "cls_token": "x_norm_clstoken",
    "register_tokens": "x_norm_regtokens",
    "patch_tokens": "x_norm_patchtokens",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Random weights of the real architectures."""
    folder = tmp_path_factory.mktemp("weights")

    @cache
    def draw(model: str) -> Path:
        path = folder / f"{model}.safetensors"
        save_file(draw_weights(build_network(SETTINGS[model]), 0), path)
        return path

    return draw


@NEEDS_META
@pytest.mark.parametrize("size", ["518x518", "448x448", "518x322"])
@pytest.mark.parametrize("model", MODELS)
def test_the_reference_is_meta_s_definition(
    model: str, size: str, weights: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XFORMERS_DISABLED", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hub = import_module("dinov2.hub.backbones")
    network: Any = getattr(hub, MODELS[model])(pretrained=False)
    state = {name: torch.from_numpy(value) for name, value in load_file(weights(model)).items()}
    network.load_state_dict(state, strict=True)
    network.eval()
    pictures = {"coffee.jpg": ROOT / "catalog/pictures/coffee.jpg"}
    with torch.no_grad():
        _, tensors = compute({**SETTINGS[model], "size": size}, weights(model), pictures, 0)
        for picture in ("coffee.jpg", "noise"):
            image = torch.from_numpy(normalize(tensors[f"{picture}/picture"]))
            expected = network.forward_features(image)
            outputs = {name for name in OUTPUTS if f"{picture}/{name}" in tensors}
            assert ("register_tokens" in outputs) is (model == "dinov2_vits14_reg4")
            for output in outputs:
                check = compare_tensors(
                    np.asarray(expected[OUTPUTS[output]]),
                    tensors[f"{picture}/{output}"],
                    graph="reference",
                    case=f"{picture}, {size}",
                    tensor=output,
                    bound=3e-6,
                )
                assert check.ok, check.describe()


def test_tokens_are_told_by_their_place() -> None:
    tokens = torch.arange(7.0)[None, :, None]
    kinds = {name: value.flatten().tolist() for name, value in _split(tokens, 2).items()}
    assert kinds == {"cls_token": [0], "register_tokens": [1, 2], "patch_tokens": [3, 4, 5, 6]}
    kinds = {name: value.flatten().tolist() for name, value in _split(tokens, 0).items()}
    assert kinds == {"cls_token": [0], "patch_tokens": [1, 2, 3, 4, 5, 6]}


@pytest.mark.parametrize("registers", [0, 4])
def test_the_class_token_s_place_is_never_resampled(registers: int) -> None:
    params = {"native": 42, "patch": 14, "registers": registers}
    table = torch.arange(40.0).reshape(1, 10, 4)
    assert interpolate_positions(table, (3, 3), params) is table
    found = interpolate_positions(table, (2, 5), params)
    assert found.shape == (1, 11, 4)
    assert torch.equal(found[:, 0], table[:, 0])
    # Row by row: what grows downwards by 12 and to the right by 4 still does.
    places = found[0, 1:, 0].reshape(2, 5)
    assert (places.diff(dim=1) > 0).all() and (places[1] > places[0] + 8).all()


def test_made_up_pictures_are_those_of_the_seed() -> None:
    made, again, other = (_plain_pictures(2, 3, seed)["noise"] for seed in (0, 0, 1))
    assert made.shape == (2, 3, 3)
    assert (made == again).all() and (made != other).any()
