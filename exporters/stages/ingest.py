"""The stage `ingest`: a checkpoint in any of its usual forms becomes one safetensors file.

It is the only stage that opens a pickle. What it writes is float32, complete, finite, and of the
architecture that was asked for.
"""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from exporters.protocol import BAD_INPUT, Result, StageError, Step, report_progress
from exporters.weights.random import draw_weights

_NESTS: Final = ("model", "state_dict", "model_state_dict")
_PREFIXES: Final = ("module.", "_orig_mod.")
_SHOWN: Final = 4


def run(step: Step) -> Result:
    """Reads a checkpoint or draws random weights, and writes `weights.safetensors`.

    Parameters: `source` is {"kind": "file", "format": "pt" | "safetensors"}, with an input
    `checkpoint`, or {"kind": "random", "seed": int}; the rest goes to the family's part, which
    builds the architecture (`build_network`), knows its relatives (`find_relative`), and may
    change random weights that would leave a part of the network without effect (`mend_random`).

    Raises:
        StageError: The file cannot be read or is not this model's (exit code 2).
    """
    provider = step.provider()
    source = step.param("source")
    report_progress(0.0, f"building {step.param('model')}")
    network = provider.build_network(step.params)
    if source["kind"] == "random":
        report_progress(0.3, f"drawing random weights from seed {source['seed']}")
        weights = draw_weights(network, int(source["seed"]))
        if hasattr(provider, "mend_random"):
            provider.mend_random(weights)
    else:
        report_progress(0.3, "reading the checkpoint")
        found = read_checkpoint(step.input("checkpoint"), source["format"])
        expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        shapes = {name: tuple(value.shape) for name, value in found.items()}
        problem = compare_shapes(expected, shapes)
        if problem:
            relative = provider.find_relative(shapes, step.params)
            raise _wrong_model(str(step.param("model")), problem, relative)
        weights = as_float32(found)
    del network
    report_progress(0.7, "writing weights.safetensors")
    save_file(weights, step.out / "weights.safetensors")
    values = sum(value.size for value in weights.values())
    return Result(
        outputs=["weights.safetensors"],
        metrics={
            "tensors": len(weights),
            "values": values,
            "bytes": (step.out / "weights.safetensors").stat().st_size,
            "random": source["kind"] == "random",
        },
    )


def read_checkpoint(path: Path, form: str) -> dict[str, torch.Tensor]:
    """Reads the tensors of a checkpoint by their bare names.

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
            f"The checkpoint {path.name} cannot be read as {form}",
            f"it is damaged, cut short, or holds more than tensors: {reason}",
            "copy or download the file again; of your own model, save only its state_dict()",
            exit_code=BAD_INPUT,
        ) from error
    state = _find_state(document)
    if state is None:
        raise StageError(
            f"The checkpoint {path.name} holds no state dict",
            f"{_describe(document)}, and none of {', '.join(_NESTS)} is a set of named tensors",
            "save the model with torch.save(model.state_dict(), ...)",
            exit_code=BAD_INPUT,
        )
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def compare_shapes(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> str:
    """Says how a checkpoint's names and shapes differ from an architecture's; empty if they do not.

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
    """Converts tensors to float32 arrays, sorted by name.

    Raises:
        StageError: A tensor is not of a floating-point type, or not finite (exit code 2).
    """
    weights: dict[str, NDArray[np.float32]] = {}
    for name in sorted(state):
        tensor = state[name].detach()
        if not tensor.is_floating_point():
            raise _bad_tensor(name, f"it holds {str(tensor.dtype).removeprefix('torch.')} values")
        array = np.ascontiguousarray(tensor.to(torch.float32).numpy())
        if not np.isfinite(array).all():
            raise _bad_tensor(name, "it holds values that are not finite")
        weights[name] = array
    return weights


def _can_map(path: Path) -> bool:
    """Only the zip form of a checkpoint can be mapped into memory."""
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
        return f"it has {_first([str(name) for name in document]) or 'nothing'} at its top"
    return f"it is a {type(document).__name__}"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _shape(dims: tuple[int, ...]) -> str:
    return "x".join(map(str, dims)) or "a single value"


def _wrong_model(model: str, problem: str, relative: str | None) -> StageError:
    return StageError(
        f"The checkpoint is not one of {model}",
        f"{problem}" + (f"; it has the shape of {relative}" if relative else ""),
        f"name {relative} in the target instead"
        if relative
        else f"give the checkpoint of {model}, or name the model that it belongs to",
        exit_code=BAD_INPUT,
    )


def _bad_tensor(name: str, why: str) -> StageError:
    return StageError(
        f"The checkpoint's tensor {name} cannot be used",
        why,
        "check how the checkpoint was trained and saved",
        exit_code=BAD_INPUT,
    )
