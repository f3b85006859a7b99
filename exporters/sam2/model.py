"""Building SAM 2's networks from upstream's own configurations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch


def build_model(config: str, overrides: Sequence[str]) -> torch.nn.Module:
    """Build a SAM 2 network as upstream's `build_sam2` does, on the CPU and in eval mode.

    Args:
        config: Upstream's configuration, for example `configs/sam2.1/sam2.1_hiera_t.yaml`.
        overrides: Hydra overrides, for example `model.image_size=256`.

    Returns:
        A `sam2.modeling.sam2_base.SAM2Base` with upstream's initial values.
    """
    from sam2.build_sam import build_sam2

    network: torch.nn.Module = build_sam2(
        config, None, device="cpu", mode="eval", hydra_overrides_extra=list(overrides)
    )
    return network


def load_model(config: str, overrides: Sequence[str], weights: Path) -> torch.nn.Module:
    """Build the model, with its values read from a file that `ingest` wrote.

    The parameters are views of the mapped file: nothing is copied until it is used.
    """
    network = build_model(config, overrides)
    _fill(network, weights)
    return network


def load_predictor(config: str, overrides: Sequence[str], weights: Path) -> torch.nn.Module:
    """Return a `SAM2VideoPredictor` as upstream's `build_sam2_video_predictor` makes it, on the
    CPU.

    Only holes are left as they are: upstream fills them with a CUDA extension, and without one
    it warns and leaves them too.
    """
    from sam2.build_sam import build_sam2_video_predictor

    predictor: Any = build_sam2_video_predictor(
        config, None, device="cpu", mode="eval", hydra_overrides_extra=list(overrides)
    )
    predictor.fill_hole_area = 0
    network: torch.nn.Module = predictor
    _fill(network, weights)
    return network


def _fill(network: torch.nn.Module, weights: Path) -> None:
    network.load_state_dict(safetensors.torch.load_file(weights), strict=True, assign=True)
    network.requires_grad_(False)
    require_eval(network)


def require_eval(network: torch.nn.Module) -> None:
    """Assert that no part of a network is in training mode.

    The exporter of TorchScript puts the mode of its outermost module on every inner one; a
    reference that runs afterwards would be another function, without an error.
    """
    training = [name or "the network" for name, part in network.named_modules() if part.training]
    if training:
        raise AssertionError(f"in training mode: {', '.join(training[:4])}")


def read_config(config: str, overrides: Sequence[str]) -> Mapping[str, Any]:
    """Return the `model` part of one of upstream's configurations, resolved, without building
    it.
    """
    import sam2  # noqa: F401  its import tells Hydra where the configurations are
    from hydra import compose
    from omegaconf import OmegaConf

    tree = compose(config_name=config, overrides=list(overrides))
    container: Any = OmegaConf.to_container(tree, resolve=True)
    model: Mapping[str, Any] = container["model"]
    return model
