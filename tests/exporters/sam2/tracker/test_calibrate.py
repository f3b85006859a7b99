"""Calibrating a shrunken tracker: memory attention gets what the other graphs make of a picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters.graphs.structure import read_graph
from exporters.media.pictures import normalize
from exporters.precision.float16_range import find_observed
from exporters.precision.layers import find_layers
from exporters.protocol import Step
from exporters.sam2.tracker.calibrate import restore
from exporters.stages import calibrate
from tests.exporters.sam2.tracker.models import Trackers
from tests.exporters.shrunken import ROOT, require_linear_layers, shrink

PICTURES = sorted((ROOT / "catalog" / "calibration").glob("*.jpg"))[:2]


def run_calibrate(
    trackers: Trackers,
    folder: Path,
    contract: str,
    quantized: list[str],
    observe: str = "inputs",
) -> dict[str, Any]:
    golden = shrink(contract)
    pictures = {f"calibration/{path.name}": path for path in PICTURES}
    (folder / "out").mkdir(parents=True)
    step = Step(
        step="small/calibrate",
        stage="calibrate",
        modules=("exporters.stages.calibrate", "exporters.sam2.tracker.calibrate"),
        params={
            "graphs": golden["graphs"],
            "quantized": quantized,
            "op_types": ["MatMul"],
            "observe": observe,
            "calib_method": "max",
            "calib_size": len(pictures),
            "use_random_calib": False,
            "calibration_eps": ["cpu"],
            "preprocessing": golden["preprocessing"],
            "options": golden["options"],
            "pictures": list(pictures),
        },
        inputs={**trackers.graphs(contract), **pictures},
        out=folder / "out",
        threads=1,
        seed=0,
    )
    calibrate.run(step)
    document: dict[str, Any] = json.loads((step.out / "calibration.json").read_text())
    return document


def test_the_encoder_alone_takes_the_picture(trackers: Trackers, tmp_path: Path) -> None:
    found = run_calibrate(trackers, tmp_path, "tracker", ["image_encoder"])
    assert list(found["graphs"]) == ["image_encoder"]
    assert all(value > 0 for value in found["graphs"]["image_encoder"].values())


def test_memory_attention_is_reached_by_following_an_object(
    trackers: Trackers, tmp_path: Path
) -> None:
    wanted = ["image_encoder", "memory_attention"]
    found = run_calibrate(trackers, tmp_path, "tracker", wanted)
    assert sorted(found["graphs"]) == wanted
    path = trackers.graphs("tracker")["memory_attention.onnx"]
    layers = find_layers(read_graph(path), ["MatMul"])
    inputs = {layer.input for layer in layers if not layer.reason}
    # Four layers, and times that are projected once. Keys and values go channels first, so
    # that their weights stand on the left.
    left = [layer for layer in layers if "on the left" in layer.reason]
    assert (len(inputs), len(left)) == (4 * 4 + 1, 4 * 5)
    ranges = found["graphs"]["memory_attention"]
    assert set(ranges) == inputs
    assert all(value > 0 for value in ranges.values())


def test_a_picture_comes_back_from_its_tensor() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    assert np.array_equal(restore(normalize(picture)), picture)


def test_every_graph_that_is_quantized_has_linear_layers(trackers: Trackers) -> None:
    golden, done = shrink("tracker"), trackers.graphs("tracker")
    for graph in golden["graphs"]:
        if graph["name"] in golden["quantization"]["graphs"]:
            require_linear_layers(done[graph["file"]])


@pytest.mark.parametrize("contract", ["tracker", "tracker-ex"])
def test_every_value_of_every_graph_is_observed_for_float16(
    trackers: Trackers, tmp_path: Path, contract: str
) -> None:
    graphs = [graph["name"] for graph in shrink(contract)["graphs"]]
    found = run_calibrate(trackers, tmp_path, contract, graphs, observe="tensors")
    assert sorted(found["largest"]) == sorted(graphs)
    for name, path in trackers.graphs(contract).items():
        seen = found["largest"][name.removesuffix(".onnx")]
        assert set(seen) == set(find_observed(read_graph(path)))
        # Object pointers that nothing takes out of memory aside, all of them say something.
        silent = [one for one, value in seen.items() if not value]
        assert len(silent) < len(seen) / 10, silent
