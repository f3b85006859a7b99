"""Contracts filled in for a target: dims that depend on its model and its parameters."""

from collections.abc import Iterator
from typing import Any

import pytest

from modelkiln.catalog.catalog import load_catalog
from modelkiln.catalog.dims import LARGEST_FILE, fill_contract
from modelkiln.catalog.selection import all_target_names, select_targets
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import OfficialWeights, RandomWeights
from modelkiln.errors import UsageError
from modelkiln.paths import REPOSITORY

CATALOG = load_catalog([REPOSITORY / "catalog"])


def target(name: str, size: str = "518x518") -> Target:
    (found,) = select_targets(CATALOG, [name], OfficialWeights(), {"size": size})
    return found


def signature(one: Target) -> dict[str, list[Any]]:
    (graph,) = one.graphs
    return {value["name"]: value["dims"] for value in (*graph["inputs"], *graph["outputs"])}


def test_features_of_a_model_without_registers() -> None:
    assert signature(target("dinov2_vits14/features/onnx-fp32", "518x322")) == {
        "image": ["batch", 3, 518, 322],
        "cls_token": ["batch", 384],
        "patch_tokens": ["batch", 37 * 23, 384],
    }


def test_features_of_a_model_with_registers() -> None:
    assert signature(target("dinov2_vitb14_reg4/features/onnx-fp32")) == {
        "image": ["batch", 3, 518, 518],
        "cls_token": ["batch", 768],
        "register_tokens": ["batch", 4, 768],
        "patch_tokens": ["batch", 37 * 37, 768],
    }


def test_treedect_s_features() -> None:
    one = target("dinov2_vitb14_reg4/treedect-features/onnx-fp32", "448x448")
    assert one.name == "dinov2_vitb14_reg4/treedect-features/onnx-fp32"
    assert signature(one) == {
        "img": ["batch", 3, 448, 448],
        "patch_tokens": ["batch", 1024, 768],
    }
    assert one.golden["preprocessing"]["height"] == 448


@pytest.mark.parametrize("registers", ["", "_reg4"])
@pytest.mark.parametrize(
    ("kind", "beside"), [("s", False), ("b", False), ("l", False), ("g", True)]
)
def test_weights_lie_beside_the_graph_where_one_file_cannot_hold_them(
    kind: str, registers: str, *, beside: bool
) -> None:
    one = target(f"dinov2_vit{kind}14{registers}/features/onnx-fp32")
    files = ("features.onnx", "features.onnx.data") if beside else ("features.onnx",)
    assert one.graph_files == files
    assert ("data" in one.graphs[0]) is beside


def test_every_target_has_numbers_and_names_in_all_dims() -> None:
    for one in select_targets(CATALOG, all_target_names(CATALOG), OfficialWeights()):
        for dim in _dims(one):
            assert isinstance(dim, int) or dim.isidentifier(), (one.name, dim)
        assert not any(str(value).startswith("{") for value in one.golden["preprocessing"].values())


def _dims(one: Target) -> Iterator[Any]:
    for graph in one.graphs:
        for value in (*graph["inputs"], *graph["outputs"]):
            yield from value["dims"]


def _fill(dim: object, weights_bytes: int = 0, **numbers: int) -> dict[str, Any]:
    graph = {"inputs": [{"name": "x", "dims": [dim]}], "outputs": [], "data": "x.data"}
    return fill_contract({"graphs": [graph]}, numbers, weights_bytes)


@pytest.mark.parametrize(
    ("dim", "value"),
    [
        (3, 3),
        ("batch", "batch"),
        ("{width}", 5),
        ("{ height // 2 * (width // 2) + 1 - 1 }", 12),
        ("{7}", 7),
    ],
)
def test_an_expression_becomes_a_number(dim: object, value: object) -> None:
    (graph,) = _fill(dim, height=13, width=5)["graphs"]
    assert graph["inputs"][0]["dims"] == [value]


@pytest.mark.parametrize(
    "dim",
    [
        "{depth}",
        "{width",
        "width}",
        "a{width}",
        "{}",
        "{1 +}",
        "{width / 2}",
        "{width // 0}",
        "{abs(1)}",
        "{True}",
        "{'a'}",
    ],
)
def test_a_wrong_expression_is_told_with_the_names_that_there_are(dim: str) -> None:
    with pytest.raises(UsageError, match="has no value") as caught:
        _fill(dim, width=5)
    assert "known are width" in caught.value.why


def test_the_file_beside_is_for_what_exceeds_protocol_buffers() -> None:
    assert "data" not in _fill(1, LARGEST_FILE - 1)["graphs"][0]
    assert _fill(1, LARGEST_FILE)["graphs"][0]["data"] == "x.data"


def test_the_document_itself_stays_as_it_is() -> None:
    document = CATALOG.contracts["features"].golden
    before = str(document)
    fill_contract(document, {"height": 28, "width": 28, "embed_dim": 4, "patch": 14}, 0)
    assert str(document) == before


def test_what_random_weights_make_meaningless_is_what_the_contract_yields() -> None:
    def warnings(weights: OfficialWeights | RandomWeights) -> list[str]:
        names = ["dinov2_vits14/features/onnx-fp32", "sam2.1_hiera_tiny/image/onnx-fp32"]
        return [one.warning for one in select_targets(CATALOG, names, weights)]

    assert warnings(OfficialWeights()) == ["", ""]
    assert warnings(RandomWeights()) == [
        "random weights: this feature map means nothing",
        "random weights: this mask means nothing",
    ]
