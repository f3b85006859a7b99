"""Checkpoints in all their forms, and those that are something else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from exporters.protocol import StageError
from tests.exporters.shrunken import ARCHITECTURE, UPSTREAM, Done, run_stage

torch = pytest.importorskip("torch")

Ingest = Callable[..., Done]


@pytest.fixture
def ingest(scratch: Callable[[str], Path]) -> Ingest:
    """Ingests a file as the shrunken model's checkpoint."""

    def run(path: Path, form: str = "pt", **params: Any) -> Done:
        source = {"kind": "file", "format": form}
        given = {**ARCHITECTURE, "source": source, "upstream": UPSTREAM, **params}
        modules = ["exporters.stages.ingest", "exporters.sam2.ingest"]
        return run_stage(scratch("ingest"), "ingest", modules, given, {"checkpoint": path})

    return run


@pytest.fixture(scope="module")
def state(weights: Path) -> dict[str, Any]:
    """The shrunken model's tensors."""
    return {name: torch.from_numpy(value) for name, value in load_file(weights).items()}


def _save(folder: Path, document: object) -> Path:
    path = folder / "checkpoint.pt"
    torch.save(document, path)
    return path


def test_a_training_checkpoint_gives_the_same_bytes(
    state: dict[str, Any], weights: Path, ingest: Ingest, tmp_path: Path
) -> None:
    wrapped = {f"module.{name}": value for name, value in reversed(state.items())}
    path = _save(tmp_path, {"optimizer": {"step": 3}, "model": wrapped, "epoch": 7})
    assert ingest(path)["weights.safetensors"].read_bytes() == weights.read_bytes()


def test_safetensors_give_the_same_bytes(weights: Path, ingest: Ingest) -> None:
    done = ingest(weights, "safetensors")
    assert done["weights.safetensors"].read_bytes() == weights.read_bytes()
    assert done.metrics["random"] is False


def test_missing_and_foreign_tensors_are_counted(
    state: dict[str, Any], ingest: Ingest, tmp_path: Path
) -> None:
    changed = {name: value for name, value in state.items() if "norm1" not in name}
    changed["extra"] = torch.ones(1)
    changed["no_mem_embed"] = torch.ones(1, 1, 7)
    with pytest.raises(StageError, match=r"is not one of sam2\.1_hiera_tiny") as failure:
        ingest(_save(tmp_path, changed))
    missing = sum("norm1" in name for name in state)
    assert f"{missing} tensors are missing (" in failure.value.why
    assert "1 are not expected (extra)" in failure.value.why
    assert "no_mem_embed is 1x1x7 instead of 1x1x256" in failure.value.why
    assert failure.value.exit_code == 2


@pytest.mark.parametrize(
    ("config", "relative"),
    [
        ("sam2/sam2_hiera_t", "sam2_hiera_tiny"),
        ("sam2.1/sam2.1_hiera_b+", "sam2.1_hiera_base_plus"),
        ("sam2.1/sam2.1_hiera_l", "sam2.1_hiera_large"),
    ],
)
def test_another_model_is_recognized(
    config: str, relative: str, ingest: Ingest, tmp_path: Path
) -> None:
    """Only traits are looked at, so a few empty tensors stand for a whole checkpoint."""
    traits = {"t": (96, 12), "b+": (112, 24), "l": (144, 48)}
    width, depth = traits[config.rpartition("_")[2]]
    tensors = {"image_encoder.trunk.patch_embed.proj.weight": np.ones((width, 3, 7, 7), np.float32)}
    for block in range(depth):
        tensors[f"image_encoder.trunk.blocks.{block}.norm1.weight"] = np.ones(1, np.float32)
    if config.startswith("sam2.1"):
        tensors["no_obj_embed_spatial"] = np.ones((1, 64), np.float32)
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(StageError, match="is not one of") as failure:
        ingest(tmp_path / "other.safetensors", "safetensors")
    assert f"it has the shape of {relative}" in failure.value.why
    assert failure.value.next == f"Name {relative} in the target instead."
