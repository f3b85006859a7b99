"""Checkpoints in any of their usual forms: read, compared with an architecture, made float32."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from exporters.protocol import BAD_INPUT, StageError

_NESTS: Final = ("model", "state_dict", "model_state_dict")
_PREFIXES: Final = ("module.", "_orig_mod.")
_SHOWN: Final = 4


def read_checkpoint(path: Path, form: str) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint by their bare names.

    Takes plain state dicts and training checkpoints (`model` or `state_dict` beside an optimizer),
    and drops the prefixes that wrappers leave on every name.

    Raises:
        StageError: The file is damaged, or holds no state dict (exit code 2).
    """
    try:
        document: Any = (
            safetensors.torch.load_file(path)
            if form == "safetensors"
            else torch.load(path, map_location="cpu", weights_only=True, mmap=_can_map(path))
        )
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise StageError(
            f"The checkpoint {path.name} cannot be read as {form}.",
            f"It is damaged, cut short, or holds more than tensors: {reason}",
            "Copy or download the file again; of your own model, save only its state_dict().",
            exit_code=BAD_INPUT,
        ) from error
    state = _find_state(document)
    if state is None:
        raise StageError(
            f"The checkpoint {path.name} holds no state dict.",
            f"{_describe(document)}, and none of {', '.join(_NESTS)} is a set of named tensors.",
            "Save the model with torch.save(model.state_dict(), ...).",
            exit_code=BAD_INPUT,
        )
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def compare_shapes(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> str:
    """Say how a checkpoint's names and shapes differ from an architecture's; empty if they do not.

    Names the counts and the first few of each kind.
    """
    missing = sorted(set(expected) - set(found))
    unexpected = sorted(set(found) - set(expected))
    wrong = [
        f"{name} is {_shape(found[name])} instead of {_shape(expected[name])}"
        for name in sorted(set(expected) & set(found))
        if expected[name] != found[name]
    ]
    parts = [
        f"{len(names)} {kind} ({_first(names)})"
        for kind, names in (
            ("tensors are missing", missing),
            ("are not expected", unexpected),
            ("have another shape", wrong),
        )
        if names
    ]
    return ", ".join(parts)


def as_float32(state: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.float32]]:
    """Convert tensors to float32 arrays, sorted by name.

    Raises:
        StageError: A tensor is not of a floating-point type, or not finite (exit code 2).
    """
    weights: dict[str, NDArray[np.float32]] = {}
    for name in sorted(state):
        tensor = state[name].detach()
        if not tensor.is_floating_point():
            raise _bad_tensor(name, f"It holds {str(tensor.dtype).removeprefix('torch.')} values.")
        array = np.ascontiguousarray(tensor.to(torch.float32).numpy())
        if not np.isfinite(array).all():
            raise _bad_tensor(name, "It holds values that are not finite.")
        weights[name] = array
    return weights


def _can_map(path: Path) -> bool:
    """Tell whether a checkpoint is in the zip form, which alone can be mapped into memory."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _find_state(document: object) -> dict[str, torch.Tensor] | None:
    if not isinstance(document, Mapping):
        return None
    for nest in _NESTS:
        inner = document.get(nest)
        if isinstance(inner, Mapping):
            return _find_state(inner)
    named = {name: value for name, value in document.items() if isinstance(value, torch.Tensor)}
    return named if named and len(named) == len(document) else None


def _describe(document: object) -> str:
    if isinstance(document, Mapping):
        return f"It has {_first([str(name) for name in document]) or 'nothing'} at its top"
    return f"It is a {type(document).__name__}"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _shape(dims: tuple[int, ...]) -> str:
    return "x".join(map(str, dims)) or "a single value"


def _bad_tensor(name: str, why: str) -> StageError:
    return StageError(
        f"The checkpoint's tensor {name} cannot be used.",
        why,
        "Check how the checkpoint was trained and saved.",
        exit_code=BAD_INPUT,
    )
