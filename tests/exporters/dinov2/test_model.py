"""DINOv2's architecture: sizes, names, and weights that stay in their file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from exporters.dinov2.ingest import build_network, find_relative
from exporters.dinov2.model import build_model, fill, load_model, read_size
from tests.exporters.dinov2.models import NATIVE, SETTINGS, SHRUNKEN, Dinov2s

# Tensors and values of Meta's checkpoints: their files are larger by names and records alone.
SIZES = {
    "dinov2_vits14": (175, 22_056_576),
    "dinov2_vits14_reg4": (176, 22_058_112),
    "dinov2_vitb14": (175, 86_580_480),
    "dinov2_vitb14_reg4": (176, 86_583_552),
    "dinov2_vitl14": (343, 304_368_640),
    "dinov2_vitl14_reg4": (344, 304_372_736),
    "dinov2_vitg14": (567, 1_136_480_768),
    "dinov2_vitg14_reg4": (568, 1_136_486_912),
}


def _shapes(model: str) -> dict[str, tuple[int, ...]]:
    network = build_network(SETTINGS[model])
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


@pytest.mark.parametrize("model", SETTINGS)
def test_an_architecture_has_the_size_of_its_checkpoint(model: str) -> None:
    shapes = _shapes(model)
    values = sum(int(np.prod(shape)) for shape in shapes.values())
    assert (len(shapes), values) == SIZES[model]
    overhead = SETTINGS[model]["checkpoint"]["bytes"] - 4 * values
    assert 0 < overhead < 1_000 * len(shapes)
    assert find_relative(shapes, SETTINGS[model]) is None
    asked = next(name for name in SETTINGS if name != model)
    assert find_relative(shapes, SETTINGS[asked]) == model


@pytest.mark.parametrize("model", SHRUNKEN)
def test_weights_are_views_of_the_file(model: str, dinov2s: Dinov2s) -> None:
    path = dinov2s.weights(model)
    network: Any = load_model(SHRUNKEN[model], path)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    mapped = [
        range(*(int(end, 16) for end in line.split()[0].split("-")))
        for line in maps
        if line.endswith(str(path.resolve()))
    ]
    copied = {
        name
        for name, value in network.named_parameters()
        if not any(value.data_ptr() in part for part in mapped)
    }
    assert copied == ({"cls_token"} if SHRUNKEN[model]["registers"] else set())
    assert not any(value.requires_grad for value in network.parameters())
    assert not any(part.training for part in network.modules())
    tensors = load_file(path)
    expected = tensors["cls_token"][0, 0]
    if copied:
        expected = expected + tensors["pos_embed"][0, 0]
    np.testing.assert_array_equal(network.cls_token[0, 0].numpy(), expected)


def test_a_position_table_is_never_resampled_by_timm(dinov2s: Dinov2s) -> None:
    params = SHRUNKEN["dinov2_vits14"]
    state = load_file(dinov2s.weights("dinov2_vits14"))
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}
    fill(build_model(params, read_size(NATIVE)), tensors)
    with pytest.raises(ValueError, match="has 26 places, the network 29"):
        fill(build_model(params, read_size("56x98")), tensors)


def test_a_catalog_that_describes_another_architecture_is_found() -> None:
    wrong = {**SETTINGS["dinov2_vits14"], "registers": 4}
    with pytest.raises(AssertionError, match=r"the catalog says .*'registers': 4"):
        build_model(wrong)


def test_sizes_are_height_first() -> None:
    assert read_size("518x322") == (518, 322)
