"""SAM 2's networks: built as upstream builds them, and filled from a file."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file

from exporters.sam2.model import load_model, load_predictor, read_config, require_eval
from tests.exporters.shrunken import ARCHITECTURE, SIZE

CONFIG, OVERRIDES = ARCHITECTURE["config"], ARCHITECTURE["overrides"]


def test_a_network_has_the_values_of_the_file_and_is_at_rest(weights: Path) -> None:
    network: Any = load_model(CONFIG, OVERRIDES, weights)
    expected = load_file(weights)
    assert set(network.state_dict()) == set(expected)
    for name, value in network.state_dict().items():
        assert (value.numpy() == expected[name]).all(), name
    assert not any(value.requires_grad for value in network.parameters())
    assert int(network.image_size) == SIZE


def test_the_video_predictor_leaves_holes_as_they_are(weights: Path) -> None:
    predictor: Any = load_predictor(CONFIG, OVERRIDES, weights)
    assert predictor.fill_hole_area == 0
    assert hasattr(predictor, "propagate_in_video")
    assert not predictor.training


def test_a_part_in_training_mode_is_named() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout()).eval()
    require_eval(network)
    network[1].train()
    with pytest.raises(AssertionError, match=r"in training mode: 1$"):
        require_eval(network)
    network.train()
    with pytest.raises(AssertionError, match="in training mode: the network, 0, 1"):
        require_eval(network)


def test_a_configuration_is_read_with_its_overrides() -> None:
    assert read_config(CONFIG, ())["image_size"] == 1024
    changed = read_config(CONFIG, OVERRIDES)
    assert changed["image_size"] == SIZE
    assert changed["image_encoder"]["trunk"]["stages"] == [1, 2, 3, 1]
