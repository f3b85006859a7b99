"""DINOv2's graphs: what they compute, and what they are made of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from exporters.graphs.sessions import Session
from exporters.graphs.structure import count_ops
from tests.exporters.dinov2.models import NATIVE, OTHER, SHRUNKEN, Dinov2s

CASES = [
    ("dinov2_vits14", NATIVE, "features", 18),
    ("dinov2_vits14", OTHER, "features", 17),
    ("dinov2_vits14_reg4", OTHER, "features", 20),
    ("dinov2_vits14_reg4", OTHER, "treedect-features", 18),
    ("dinov2_vitg14_reg4", NATIVE, "features", 20),
]
SHAPES = {"ConstantOfShape", "Expand", "Gather", "If", "Range", "Resize", "Shape", "Size", "Where"}


@pytest.mark.parametrize(("model", "size", "contract", "opset"), CASES)
def test_a_graph_matches_upstream(
    model: str, size: str, contract: str, opset: int, dinov2s: Dinov2s
) -> None:
    files = dinov2s.graphs(model, size, contract, opset)
    done = dinov2s.verify(files, model, size, contract, opset)
    outputs = {"patch_tokens"}
    if contract == "features":
        outputs |= {"cls_token"}
        outputs |= {"register_tokens"} if SHRUNKEN[model]["registers"] else set()
    worst = done.metrics["summary"]["worst"]
    assert set(worst) == {f"features/{output}" for output in outputs}
    assert all(check["relative"] <= 2e-6 for check in worst.values())
    cases = {tensor["case"] for tensor in done.metrics["tensors"]}
    photographs = {"astronaut.jpg", "coffee.jpg", "rocket.jpg"}
    batches = {f"{name} in a batch of 3" for name in photographs}
    assert cases == photographs | batches | {"black", "white", "noise"}


@pytest.mark.parametrize(("model", "size", "contract", "opset"), CASES)
def test_operators_are_few_and_whole(
    model: str, size: str, contract: str, opset: int, dinov2s: Dinov2s
) -> None:
    files = dinov2s.graphs(model, size, contract, opset)
    # The giant's weights lie beside its graph, those of the others in it.
    beside = ["features.onnx.data"] if "vitg" in model else []
    assert sorted(files) == ["features.onnx", *beside]
    graph = onnx.load_model(files["features.onnx"])
    ops = count_ops(graph)
    assert not SHAPES & set(ops)
    assert ops["LayerNormalization"] == 2 * 3 + 1
    if "vitg" in model:
        assert ops["Sigmoid"] == 3
        assert not {"Erf", "Gelu"} & set(ops)
    else:
        assert (ops.get("Gelu", 0), ops.get("Erf", 0)) == ((3, 0) if opset >= 20 else (0, 3))
    assert [(one.domain, one.version) for one in graph.opset_import] == [("", opset)]


# Of the giant's sixteen heads none are split, whatever is asked for.
@pytest.mark.parametrize(
    ("model", "size", "contract", "opset", "heads"),
    [
        ("dinov2_vits14", NATIVE, "features", 18, 3),
        ("dinov2_vits14_reg4", OTHER, "treedect-features", 18, 3),
        ("dinov2_vitg14_reg4", NATIVE, "features", 20, 1),
    ],
)
def test_attention_in_one_piece_is_the_same_in_fewer_products(
    model: str, size: str, contract: str, opset: int, heads: int, dinov2s: Dinov2s
) -> None:
    split = dinov2s.graphs(model, size, contract, opset)
    whole = dinov2s.graphs(model, size, contract, opset, attention="whole")
    paths = [one["features.onnx"] for one in (split, whole)]
    before, after = (count_ops(onnx.load_model(path)) for path in paths)
    # Two products and a mean for each of three blocks, not for each head.
    assert after["Softmax"] == 3
    assert before["Softmax"] == 3 * heads
    assert before["MatMul"] - after["MatMul"] == 3 * (heads - 1) * 2
    (image,) = onnx.load_model(paths[0]).graph.input
    dims = [2, *(dim.dim_value for dim in image.type.tensor_type.shape.dim[1:])]
    inputs = {image.name: np.random.default_rng(0).standard_normal(dims, np.float32)}
    one, other = (Session(path, 1).run(inputs) for path in paths)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.std() > 0.1
        assert np.abs(value - other[name]).max() <= 1e-6 * np.abs(value).max()
    done = dinov2s.verify(whole, model, size, contract, opset)
    worst = done.metrics["summary"]["worst"]
    assert all(check["relative"] <= 2e-6 for check in worst.values())


@pytest.mark.parametrize(
    ("model", "size"), [("dinov2_vits14_reg4", OTHER), ("dinov2_vitg14_reg4", NATIVE)]
)
def test_another_process_with_other_threads_writes_the_same_bytes(
    model: str, size: str, dinov2s: Dinov2s
) -> None:
    first = dinov2s.graphs(model, size, "features", 20)
    second = dinov2s.graphs(model, size, "features", 20, threads=2)
    assert first.keys() == second.keys()
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in first)


@pytest.mark.parametrize("simplifier", ["onnxslim", "none"])
def test_a_graph_is_whole_without_the_usual_simplifier(simplifier: str, dinov2s: Dinov2s) -> None:
    files = dinov2s.graphs("dinov2_vits14", NATIVE, "features", 18, simplifier)
    (path,) = files.values()
    assert not SHAPES & set(count_ops(onnx.load_model(path)))
    worst = dinov2s.verify(files, "dinov2_vits14").metrics["summary"]["worst"]
    assert all(check["relative"] <= 2e-6 for check in worst.values())


def _outputs(files: Mapping[str, Path]) -> list[tuple[str, list[Any]]]:
    (path,) = files.values()
    return [
        (value.name, [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim])
        for value in onnx.load_model(path).graph.output
    ]


def test_sizes_are_height_first_and_the_batch_is_free(dinov2s: Dinov2s) -> None:
    files = dinov2s.graphs("dinov2_vits14_reg4", OTHER, "features", 20)
    (path,) = files.values()
    (image,) = onnx.load_model(path).graph.input
    dims = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert dims == ["batch", 3, 56, 98]
    assert _outputs(files) == [
        ("cls_token", ["batch", 48]),
        ("register_tokens", ["batch", 4, 48]),
        ("patch_tokens", ["batch", 28, 48]),
    ]
