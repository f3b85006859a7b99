"""The check of DINOv2's features is itself checked: every fault in a network must be found."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from exporters.checks.parity import TensorCheck
from exporters.checks.verdict import require_ok
from exporters.dinov2.features.export import build_graphs
from exporters.dinov2.features.verify import check
from exporters.media.pictures import load_picture, normalize, resize
from exporters.protocol import NOT_VERIFIED, StageError
from tests.exporters.dinov2 import mutants
from tests.exporters.dinov2.models import NATIVE, OTHER, Dinov2s, fill_contract
from tests.exporters.dinov2.mutants import NETWORKS, OF_GATES, OF_REGISTERS, POSITIONS
from tests.exporters.shrunken import ROOT

PLAIN, REGISTERS, GATED = "dinov2_vits14", "dinov2_vits14_reg4", "dinov2_vitg14_reg4"


def _check(
    dinov2s: Dinov2s, model: str, size: str, contract: str = "features", mutation: str = ""
) -> list[TensorCheck]:
    """Compares the module that is traced, run by PyTorch, with the reference."""
    golden = fill_contract(model, size, contract)
    params = {**dinov2s.export_params(model, size, contract), "mutation": mutation}
    build = mutants.build_graphs if mutation else build_graphs
    graph = build(params, dinov2s.weights(model))["features"]
    names = [value["name"] for value in golden["graphs"][0]["outputs"]]

    def run(_: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        (image,) = inputs.values()
        with torch.no_grad():
            found = graph.module(torch.from_numpy(image))
        values = [found] if isinstance(found, torch.Tensor) else found
        return {name: value.numpy() for name, value in zip(names, values, strict=True)}

    checks = list(check(run, golden, dinov2s.load_reference(model, size)))
    assert all(isinstance(one, TensorCheck) for one in checks)
    return [one for one in checks if isinstance(one, TensorCheck)]


@pytest.mark.parametrize(
    ("model", "size"), [(PLAIN, NATIVE), (PLAIN, OTHER), (REGISTERS, OTHER), (GATED, NATIVE)]
)
def test_the_module_itself_passes(model: str, size: str, dinov2s: Dinov2s) -> None:
    checks = _check(dinov2s, model, size)
    outputs = len(fill_contract(model)["graphs"][0]["outputs"])
    # Six pictures alone, and three in a batch.
    assert len(checks) == 9 * outputs
    assert max(one.relative for one in checks) <= 2e-6


MUTATIONS = [
    *((model, OTHER, name) for model in (PLAIN, REGISTERS) for name in (*NETWORKS, *POSITIONS)),
    *((REGISTERS, OTHER, name) for name in OF_REGISTERS),
    *((GATED, NATIVE, name) for name in OF_GATES),
]


@pytest.mark.parametrize(("model", "size", "mutation"), MUTATIONS)
def test_a_fault_is_found(model: str, size: str, mutation: str, dinov2s: Dinov2s) -> None:
    """By every output that it reaches, on every picture that is not of one colour."""
    checks = _check(dinov2s, model, size, mutation=mutation)
    if mutation == "swap two registers":
        checks = [one for one in checks if one.tensor == "register_tokens"]
    unseen = [one.describe() for one in checks if one.ok and one.case not in ("black", "white")]
    assert checks and unseen == []
    with pytest.raises(StageError, match="unpatched PyTorch failed") as failure:
        require_ok(checks)
    assert failure.value.exit_code == NOT_VERIFIED


@pytest.mark.parametrize("mutation", ["drop a block", "drop a register", "the other kind's rule"])
def test_patch_tokens_alone_show_a_fault(mutation: str, dinov2s: Dinov2s) -> None:
    """They are all that treedect's graph gives, and a register less does not change their shape."""
    checks = _check(dinov2s, REGISTERS, OTHER, "treedect-features", mutation)
    assert checks and not any(one.ok for one in checks)
    assert all(np.isfinite(one.relative) for one in checks)


def test_a_faulty_graph_is_refused(dinov2s: Dinov2s) -> None:
    files = dinov2s.mutant(PLAIN, OTHER, "the other kind's rule")
    with pytest.raises(StageError, match="unpatched PyTorch failed") as failure:
        dinov2s.verify(files, PLAIN, OTHER)
    assert failure.value.exit_code == NOT_VERIFIED
    assert "differs by" in failure.value.why


def _by_column(tokens: NDArray[Any]) -> NDArray[Any]:
    if tokens.ndim == 2:
        return tokens
    return tokens.reshape(-1, 4, 7, 48).swapaxes(1, 2).reshape(-1, 28, 48)


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (lambda tokens: tokens, 0),
        # Of three in a batch, the one in the middle keeps its place.
        (lambda tokens: tokens[::-1], 2 * 2),
        (_by_column, 9),
    ],
)
def test_tokens_of_another_order_are_found(
    change: Callable[[NDArray[Any]], NDArray[Any]], faults: int, dinov2s: Dinov2s
) -> None:
    reference = dinov2s.load_reference(PLAIN, OTHER)
    names = {
        normalize(reference[f"{picture['name']}/picture"]).tobytes(): picture["name"]
        for picture in reference.document["pictures"]
    }

    def run(_: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        group = [names[image.tobytes()] for image in inputs["image"]]
        return {
            output: change(np.concatenate([reference[f"{name}/{output}"] for name in group]))
            for output in ("cls_token", "patch_tokens")
        }

    checks = list(check(run, fill_contract(PLAIN, OTHER), reference))
    assert (len(checks), sum(not one.ok for one in checks)) == (18, faults)


def test_the_reference_says_what_it_compared(dinov2s: Dinov2s) -> None:
    done = dinov2s.reference(REGISTERS, OTHER)
    document = json.loads(done["cases.json"].read_text(encoding="utf-8"))
    assert document["size"] == [56, 98]
    assert [picture["name"] for picture in document["pictures"] if picture["photograph"]] == [
        "astronaut.jpg",
        "coffee.jpg",
        "rocket.jpg",
    ]
    assert (done.metrics["pictures"], done.metrics["cases"]) == (6, 6)
    reference = dinov2s.load_reference(REGISTERS, OTHER)
    assert reference["coffee.jpg/cls_token"].shape == (1, 48)
    assert reference["coffee.jpg/register_tokens"].shape == (1, 4, 48)
    assert reference["coffee.jpg/patch_tokens"].shape == (1, 28, 48)
    coffee = load_picture(ROOT / "catalog/pictures/coffee.jpg")
    squashed = resize(coffee, 56, 98, Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(reference["coffee.jpg/picture"], squashed)
    noise = reference["noise/picture"]
    assert noise.shape == (56, 98, 3) and noise.std() > 60
    contents = [
        hashlib.sha256(reference[f"{picture['name']}/patch_tokens"].tobytes()).hexdigest()
        for picture in document["pictures"]
    ]
    assert len(set(contents)) == 6
