"""DINOv2's checkpoints: all eight architectures by Meta's names, and files of something else."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from exporters.dinov2.ingest import build_network
from exporters.protocol import BAD_INPUT, StageError, Step
from exporters.stages.ingest import run
from tests.exporters.dinov2.models import SETTINGS, SHRUNKEN, Dinov2s

Tensors = dict[str, NDArray[np.float32]]


def _shapes(model: str) -> dict[str, tuple[int, ...]]:
    network = build_network(SETTINGS[model])
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


@pytest.mark.parametrize("model", SHRUNKEN)
def test_random_weights_are_distinct_and_alive(model: str, dinov2s: Dinov2s) -> None:
    tensors = load_file(dinov2s.weights(model))
    contents = Counter(value.tobytes() for value in tensors.values())
    assert contents.most_common(1)[0][1] == 1
    assert [name for name, value in tensors.items() if value.std() == 0] == []
    gains = [value for name, value in tensors.items() if name.endswith("gamma")]
    assert len(gains) == 6
    assert all(value.min() >= 0.2 and value.max() <= 1 for value in gains)
    for name in ("cls_token", "pos_embed", "register_tokens"):
        if name in tensors:
            assert tensors[name].std() == pytest.approx(0.5, rel=0.2)


def test_a_published_checkpoint_gives_the_same_bytes(dinov2s: Dinov2s, tmp_path: Path) -> None:
    weights = dinov2s.weights("dinov2_vits14_reg4")
    state = {name: torch.from_numpy(value) for name, value in load_file(weights).items()}
    torch.save(state, tmp_path / "checkpoint.pth")
    source = {"kind": "file", "format": "pt"}
    done = dinov2s.ingest("dinov2_vits14_reg4", source, {"checkpoint": tmp_path / "checkpoint.pth"})
    assert done["weights.safetensors"].read_bytes() == weights.read_bytes()


def _refuse(model: str, tensors: Tensors, folder: Path) -> StageError:
    """Ingests tensors as a shrunken model's checkpoint, in this process; they are refused."""
    save_file(tensors, folder / "checkpoint.safetensors")
    step = Step(
        step=f"{model}/ingest",
        stage="ingest",
        modules=("exporters.stages.ingest", "exporters.dinov2.ingest"),
        params={**SHRUNKEN[model], "source": {"kind": "file", "format": "safetensors"}},
        inputs={"checkpoint": folder / "checkpoint.safetensors"},
        out=folder,
        threads=1,
        seed=0,
    )
    with pytest.raises(StageError) as failure:
        run(step)
    assert failure.value.what == f"The checkpoint is not one of {model}."
    assert failure.value.exit_code == BAD_INPUT
    return failure.value


def _without(*names: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        for name in names:
            del tensors[name]

    return change


def _smaller_table(tensors: Tensors) -> None:
    tensors["pos_embed"] = tensors["pos_embed"][:, :17]


def _gated(tensors: Tensors) -> None:
    for name in [name for name in tensors if ".mlp.fc1." in name]:
        tensors[name.replace("fc1", "w12")] = tensors.pop(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("register_tokens"), "1 tensors are missing (register_tokens)"),
        (_without("mask_token", "norm.bias"), "2 tensors are missing (mask_token, norm.bias)"),
        (_smaller_table, "pos_embed is 1x17x48 instead of 1x26x48"),
        (_gated, "6 are not expected (blocks.0.mlp.w12.bias, "),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_named(
    change: Callable[[Tensors], None], words: str, dinov2s: Dinov2s, tmp_path: Path
) -> None:
    tensors = load_file(dinov2s.weights("dinov2_vits14_reg4"))
    change(tensors)
    assert words in _refuse("dinov2_vits14_reg4", tensors, tmp_path).why


@pytest.mark.parametrize(
    ("asked", "given"),
    [("dinov2_vits14_reg4", "dinov2_vits14"), ("dinov2_vits14", "dinov2_vitg14_reg4")],
)
def test_another_model_s_checkpoint_is_recognized(asked: str, given: str, tmp_path: Path) -> None:
    """Only names and traits are looked at, so single values stand for most of the tensors."""
    tensors = {
        name: np.zeros(shape if name in ("cls_token", "register_tokens") else 1, np.float32)
        for name, shape in _shapes(given).items()
    }
    error = _refuse(asked, tensors, tmp_path)
    assert f"it has the shape of {given}" in error.why
    assert error.next == f"Name {given} in the target instead."
