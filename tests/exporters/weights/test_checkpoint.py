"""Checkpoints in all of their usual forms, and what is wrong with others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters.protocol import StageError
from exporters.weights.checkpoint import as_float32, compare_shapes, read_checkpoint

torch = pytest.importorskip("torch")


def _save(folder: Path, document: object) -> Path:
    path = folder / "checkpoint.pt"
    torch.save(document, path)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state},
        lambda state: {"state_dict": state, "epoch": 1},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    ],
)
def test_every_nesting_is_found(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    plain = {"a.weight": torch.ones(2), "b": torch.zeros(1)}
    found = read_checkpoint(_save(tmp_path, wrap(plain)), "pt")
    assert {name: value.tolist() for name, value in found.items()} == {
        "a.weight": [1, 1],
        "b": [0],
    }


def test_a_prefix_that_only_some_names_have_stays(tmp_path: Path) -> None:
    path = _save(tmp_path, {"module.a": torch.ones(1), "b": torch.ones(1)})
    assert set(read_checkpoint(path, "pt")) == {"module.a", "b"}


def test_half_precision_becomes_float32() -> None:
    (array,) = as_float32({"a": torch.tensor([1.5], dtype=torch.bfloat16)}).values()
    assert array.dtype == np.float32
    assert array.tolist() == [1.5]


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.tensor([1.0, float("nan")]), "not finite"),
        (torch.tensor([1, 2]), "int64 values"),
    ],
)
def test_a_useless_tensor_is_named(tensor: Any, words: str) -> None:
    with pytest.raises(StageError, match=r"tensor a\.b cannot be used") as failure:
        as_float32({"a.b": tensor})
    assert words in failure.value.why
    assert failure.value.exit_code == 2


@pytest.mark.parametrize("content", [b"", b"<html>not here</html>", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    for form in ("pt", "safetensors"):
        with pytest.raises(StageError, match=f"cannot be read as {form}") as failure:
            read_checkpoint(path, form)
        assert failure.value.exit_code == 2


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    path = tmp_path / "hostile.pt"
    torch.save({"model": Hostile()}, path)
    with pytest.raises(StageError, match="cannot be read as pt"):
        read_checkpoint(path, "pt")
    assert not marker.exists()


def test_no_state_dict_is_described(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="holds no state dict") as failure:
        read_checkpoint(_save(tmp_path, {"epoch": 3, "loss": 0.1}), "pt")
    assert "epoch, loss" in failure.value.why


def test_equal_shapes_are_no_problem() -> None:
    shapes: dict[str, tuple[int, ...]] = {"a": (1, 2), "b": ()}
    assert compare_shapes(shapes, dict(shapes)) == ""
