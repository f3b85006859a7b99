"""Seeded random weights for an architecture: for trying the pipeline where no download is possible.

A framework's own initialization is degenerate: cloned layers are identical, position tables zero,
norms the identity, so that a missing block would pass a comparison. Here every tensor is redrawn
by its role, from a generator of its own that depends on the seed and the tensor's name alone.
"""

import hashlib
import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

_GAINS: Final = ("gamma", "lambda", "layer_scale")


class Role(StrEnum):
    """What a tensor does in a network, which decides how it is drawn."""

    MATRIX = "matrix"  # N(0, 1 / sqrt(fan_in))
    BIAS = "bias"  # N(0, 0.1)
    NORM_SCALE = "norm scale"  # 1 + N(0, 0.1)
    TABLE = "table"  # position tables, tokens, temporal codes: N(0, 0.5)
    GAIN = "gain"  # LayerScale and gamma: U(0.2, 1)


def draw_weights(network: torch.nn.Module, seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw every tensor of a network's state.

    Args:
        network: The architecture; its values are not used.
        seed: Any integer; equal seeds give equal bytes.

    Returns:
        float32 arrays by name, sorted by name.
    """
    roles = dict(find_roles(network))
    state = network.state_dict()
    return {name: _draw(name, state[name], roles[name], seed) for name in sorted(state)}


def find_roles(network: torch.nn.Module) -> Iterator[tuple[str, Role]]:
    """Yield the role of each tensor in a network's state, from the module that owns it."""
    for prefix, module in network.named_modules():
        tensors = dict(module.named_parameters(recurse=False))
        tensors |= dict(module.named_buffers(recurse=False))
        for name in tensors:
            yield (f"{prefix}.{name}" if prefix else name), _role(module, name)


def _role(module: torch.nn.Module, name: str) -> Role:
    if any(gain in name for gain in _GAINS):
        return Role.GAIN
    if isinstance(module, torch.nn.Embedding):
        return Role.TABLE
    if name == "bias":
        return Role.BIAS
    if name == "weight":
        return Role.NORM_SCALE if "Norm" in type(module).__name__ else Role.MATRIX
    return Role.TABLE


def _draw(name: str, like: torch.Tensor, role: Role, seed: int) -> NDArray[np.float32]:
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
    shape = tuple(like.shape)
    if role is Role.GAIN:
        uniform = generator.random(shape, dtype=np.float32)
        return np.asarray(uniform * np.float32(0.8) + np.float32(0.2), np.float32)
    normal = generator.standard_normal(shape, dtype=np.float32)
    match role:
        case Role.MATRIX:
            fan_in = math.prod(shape[1:])
            return np.asarray(normal / np.float32(math.sqrt(fan_in)), np.float32)
        case Role.BIAS:
            return np.asarray(normal * np.float32(0.1), np.float32)
        case Role.NORM_SCALE:
            return np.asarray(normal * np.float32(0.1) + np.float32(1), np.float32)
        case Role.TABLE:
            return np.asarray(normal * np.float32(0.5), np.float32)
