"""Building DINOv2's networks from timm's architectures, with Meta's weights in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch


def read_size(size: str) -> tuple[int, int]:
    """Return the height and width in pixels of a size such as "518x322", in that order."""
    height, _, width = size.partition("x")
    return int(height), int(width)


def build_model(params: Mapping[str, Any], size: tuple[int, int] | None = None) -> torch.nn.Module:
    """Build a network on the meta device, where it has shapes and no values.

    Reads `architecture`, timm's name of it; `overrides`, further arguments of timm's
    `create_model`; and `native`, the side in pixels of the square that the position table is for.
    `embed_dim`, `patch` and `registers` are what the network must have.

    Args:
        params: The settings of a model.
        size: Height and width in pixels of the pictures that it takes; native unless told.

    Returns:
        A `timm.models.VisionTransformer` without a classifier, in eval mode.
    """
    import timm

    native = int(params["native"])
    given = {**params["overrides"], "img_size": size or (native, native)}
    network: torch.nn.Module = timm.create_model(
        params["architecture"], pretrained=False, num_classes=0, device="meta", **given
    )
    _require_settings(network, params)
    return network.eval()


def load_model(params: Mapping[str, Any], weights: Path) -> torch.nn.Module:
    """Build the model at its native size, with its values from a file that `ingest` wrote.

    The parameters are views of the mapped file: nothing is copied until it is used. Only the class
    token of a model with registers is computed: timm has its position added to it.
    """
    network = build_model(params)
    fill(network, safetensors.torch.load_file(weights))
    return network


def fill(network: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Give a network the values of a checkpoint, through timm's own conversion.

    Args:
        network: One of `build_model`.
        state: Tensors by Meta's names; the position table is of the network's own size.

    Raises:
        ValueError: The position table is of another size; timm would resample it by a rule that
            is not Meta's.
    """
    from timm.models.vision_transformer import checkpoint_filter_fn

    model: Any = network
    wanted, found = 1 + int(model.patch_embed.num_patches), int(state["pos_embed"].shape[1])
    if found != wanted:
        raise ValueError(f"the position table has {found} places, the network {wanted}")
    network.load_state_dict(checkpoint_filter_fn(dict(state), model), strict=True, assign=True)
    network.requires_grad_(False)


def _require_settings(network: torch.nn.Module, params: Mapping[str, Any]) -> None:
    """Assert that the catalog describes the architecture that it names."""
    model: Any = network
    found = {
        "embed_dim": int(model.embed_dim),
        "patch": int(model.patch_embed.patch_size[0]),
        "registers": int(model.num_reg_tokens),
    }
    wanted = {name: int(params[name]) for name in found}
    if found != wanted:
        raise AssertionError(f"{params['architecture']} has {found}, the catalog says {wanted}")
