"""What a calibration picture leads to in the still-image contracts' graphs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.graphs.sessions import Session
from exporters.sam2.image.calibrate import feed
from tests.exporters.shrunken import SIZE, Done, require_linear_layers, shrink

Seen = list[tuple[str, dict[str, NDArray[Any]]]]


def watch(done: Done, contract: str, quantized: list[str]) -> Seen:
    """What the graphs are given for one picture."""
    golden = shrink(contract)
    sessions = {one["name"]: Session(Path(done[one["file"]]), 1) for one in golden["graphs"]}
    seen: Seen = []

    def run(graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        seen.append((graph, dict(inputs)))
        assert list(inputs) == sessions[graph].inputs
        return sessions[graph].run(inputs)

    picture = np.random.default_rng(1).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
    feed(run, {"graphs": golden["graphs"], "quantized": quantized}, picture)
    assert np.array_equal(seen[0][1]["image"], picture)
    return seen


def test_every_graph_that_is_quantized_has_linear_layers(converted: Callable[..., Done]) -> None:
    golden, done = shrink("image"), converted("image")
    for graph in golden["graphs"]:
        if graph["name"] in golden["quantization"]["graphs"]:
            require_linear_layers(done[graph["file"]])


def test_the_encoder_alone_takes_the_picture(converted: Callable[..., Done]) -> None:
    assert [graph for graph, _ in watch(converted("image"), "image", ["encoder"])] == ["encoder"]


@pytest.mark.parametrize(("contract", "calls"), [("image", 11), ("treedect", 8)])
def test_the_decoder_is_asked_with_every_kind_of_prompt(
    converted: Callable[..., Done], contract: str, calls: int
) -> None:
    seen = watch(converted(contract), contract, ["encoder", "decoder"])
    prompts = [inputs for graph, inputs in seen if graph == "decoder"]
    assert [graph for graph, _ in seen] == ["encoder", *["decoder"] * calls]
    labels = {float(one) for inputs in prompts for one in inputs["point_labels"].ravel()}
    assert labels == {-1.0, 0.0, 1.0, 2.0, 3.0}
    assert {len(inputs["point_coords"]) for inputs in prompts} == {1, 2, 3}
    if contract == "treedect":
        assert not any("mask_input" in inputs for inputs in prompts)
        return
    # Masks are what the decoder made of a point before; sets without one have none.
    for inputs in prompts:
        brought = inputs["has_mask_input"] > 0
        assert inputs["mask_input"].shape[1:] == (1, SIZE // 4, SIZE // 4)
        assert (np.abs(inputs["mask_input"]).max(axis=(1, 2, 3)) > 0).tolist() == brought.tolist()
    assert [int(inputs["has_mask_input"].sum()) for inputs in prompts] == [0] * 8 + [1, 2, 1]
