"""Operators become few nodes, and compute what torch computes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from exporters.graphs.structure import count_ops  # noqa: E402
from exporters.graphs.symbolics import register_symbolics  # noqa: E402

Function = Callable[[Any], Any]
NAMES = ("expand", "flatten", "pad", "repeat", "scaled_dot_product_attention", "unflatten")
OPSET = 18


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    """What a stage does in its own process is undone in that of the tests."""
    register_symbolics()
    yield
    for name in NAMES:
        for opset in range(17, 21):
            torch.onnx.unregister_custom_op_symbolic(f"aten::{name}", opset)


class _Module(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def _export(function: Function, folder: Path) -> Path:
    path = folder / "graph.onnx"
    torch.onnx.export(
        _Module(function).eval(),
        (torch.randn(2, 3, 4),),
        str(path),
        opset_version=OPSET,
        input_names=["x"],
        dynamic_axes={"x": {0: "batch"}},
        dynamo=False,
    )
    return path


def _attend(x: Any, **options: Any) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(x, x + 1, x * 2, **options)


@pytest.mark.parametrize(
    ("function", "operators"),
    [
        (lambda x: torch.flatten(x, 1), {"Reshape": 1}),
        (lambda x: torch.unflatten(x, 2, (2, 2)), {"Reshape": 1}),
        (lambda x: torch.unflatten(x, 2, (-1, 2)), {"Reshape": 1}),
        (lambda x: torch.nn.functional.pad(x, (1, 2, 0, 3)), {"Pad": 1}),
        (lambda x: x.repeat(1, 2, 3), {"Tile": 1}),
        (lambda x: x[:, :, :1].expand(-1, -1, 5), {"Expand": 1}),
        (
            lambda x: _attend(x, scale=0.5),
            {"Add": 1, "MatMul": 2, "Mul": 2, "Softmax": 1, "Transpose": 1},
        ),
    ],
)
def test_an_operator_is_what_torch_computes(
    function: Function, operators: dict[str, int], tmp_path: Path
) -> None:
    path = _export(function, tmp_path)
    found = count_ops(onnx.load_model(path))
    assert {name: count for name, count in found.items() if name in operators} == operators
    assert not {"Shape", "Gather", "ConstantOfShape"} & set(found)
    # Of another batch than the trace's.
    x = torch.randn(5, 3, 4)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (computed,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(computed, function(x).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: torch.flatten(x, 0, 1), "does not reach the last axis"),
        (lambda x: torch.unflatten(x, 1, (3, 1)), "is not of the last axis"),
        (lambda x: torch.nn.functional.pad(x, (1, 1), mode="reflect"), "padding of mode reflect"),
        (lambda x: torch.nn.functional.pad(x, (1, 1), value=2.0), "or with a value"),
        (lambda x: x.repeat(2, 1, 1, 1), "of 3 axes"),
        (_attend, "without a scale"),
        (lambda x: _attend(x, scale=1.0, is_causal=True), "with a mask"),
    ],
)
def test_a_form_that_is_not_covered_is_an_error(
    function: Function, words: str, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match=words):
        _export(function, tmp_path)
