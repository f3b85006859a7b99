"""SAM 2's part of `ingest`: its architectures, and how to tell them apart."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from exporters.sam2.model import build_model, read_config
from exporters.upstream import check_upstream, installed_folder

_SIZES: Final = {"t": "tiny", "s": "small", "b+": "base_plus", "l": "large"}
_TRUNK: Final = "image_encoder.trunk."
_PRESENCE: Final = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"


def build_network(params: Mapping[str, Any]) -> torch.nn.Module:
    """Return the architecture that `config` and `overrides` describe."""
    if "upstream" in params:
        check_upstream(params["upstream"])
    return build_model(params["config"], params["overrides"])


def mend_random(weights: dict[str, NDArray[np.float32]]) -> None:
    """Let a random network see objects: drawn as it is, it judges nothing to be anywhere.

    Its masks in a video would all be empty, and nothing that follows would depend on them.
    """
    weights[_PRESENCE] += np.float32(1)


def find_relative(shapes: Mapping[str, tuple[int, ...]], params: Mapping[str, Any]) -> str | None:
    """Return the upstream model whose traits a checkpoint has, if it is another than the one asked
    for.
    """
    traits = _checkpoint_traits(shapes)
    package = installed_folder("sam2")
    for path in sorted(package.glob("configs/sam2*/sam2*_hiera_*.yaml")):
        config = path.relative_to(package).as_posix()
        if not _model_name(path) or config == params["config"]:
            continue
        if _config_traits(read_config(config, ())) == traits:
            return _model_name(path)
    return None


def _checkpoint_traits(shapes: Mapping[str, tuple[int, ...]]) -> tuple[object, ...]:
    blocks = {name.split(".")[3] for name in shapes if name.startswith(f"{_TRUNK}blocks.")}
    patch = shapes.get(f"{_TRUNK}patch_embed.proj.weight", (0,))
    return (patch[0], len(blocks), "no_obj_embed_spatial" in shapes)


def _config_traits(model: Mapping[str, Any]) -> tuple[object, ...]:
    trunk = model["image_encoder"]["trunk"]
    blocks = sum(trunk.get("stages", (2, 3, 16, 3)))
    return (trunk.get("embed_dim", 96), blocks, bool(model.get("no_obj_embed_spatial", False)))


def _model_name(config: Path) -> str:
    family, _, size = config.stem.partition("_hiera_")
    return f"{family}_hiera_{_SIZES[size]}" if size in _SIZES else ""
