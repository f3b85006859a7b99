"""How much a quantized graph of the user's differs from what it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from PIL import Image

from exporters.graphs.sessions import Session
from exporters.media.pictures import load_picture, preprocess
from exporters.protocol import StageError
from exporters.stages import compare_files
from tests.quantize.own_graphs import HEIGHT, WIDTH, make_graph, save
from tests.quantize.small_steps import make_step

PREPROCESSING = {"resize": "bilinear with antialiasing"}


def compare(
    folder: Path, before: ModelProto, after: ModelProto, count: int = 2, **params: Any
) -> Mapping[str, Any]:
    """Runs the stage on random pictures; returns its metrics."""
    inputs = {
        "original/mine.onnx": save(folder / "before", before),
        "small.onnx": save(folder / "after", after),
    }
    for index in range(count):
        path = folder / f"{index}.png"
        pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        inputs[f"pictures/{path.name}"] = path
    given = {
        "before": "original/mine.onnx",
        "after": "small.onnx",
        "picture": "image",
        "height": HEIGHT,
        "width": WIDTH,
        "preprocessing": PREPROCESSING,
        "session": {},
        "kernels": False,
        **params,
    }
    return compare_files.run(make_step(folder / "step", "compare_files", given, inputs)).metrics


def test_a_graph_does_not_differ_from_itself(tmp_path: Path) -> None:
    metrics = compare(tmp_path, make_graph(), make_graph(), kernels=True)
    assert metrics["outputs"] == [{"tensor": "embed", "snr_db": None, "cosine": 1.0}]
    assert metrics["pictures"] == ["0.png", "1.png"]
    assert metrics["integer_kernels"] == 0
    assert metrics["runtime"].startswith("onnxruntime ")


def test_the_loss_is_that_over_all_pictures(tmp_path: Path) -> None:
    before, after = make_graph(), make_graph()
    weight = numpy_helper.to_array(after.graph.initializer[1]).copy()
    weight[3] *= 1.5
    after.graph.initializer[1].CopyFrom(numpy_helper.from_array(weight, "weight"))
    [row] = compare(tmp_path, before, after)["outputs"]
    made: list[list[NDArray[Any]]] = []
    for place in ("before", "after"):
        session = Session(tmp_path / place / "mine.onnx", 1)
        pictures = [
            preprocess(load_picture(tmp_path / f"{index}.png"), HEIGHT, WIDTH) for index in (0, 1)
        ]
        made.append([session.run({"image": one})["embed"] for one in pictures])
    wanted, found = (np.concatenate(one).astype(np.float64).ravel() for one in made)
    ratio = 10 * np.log10((wanted**2).sum() / ((found - wanted) ** 2).sum())
    assert row["snr_db"] == pytest.approx(ratio, abs=0.02)
    angle = wanted @ found / np.linalg.norm(wanted) / np.linalg.norm(found)
    assert row["cosine"] == pytest.approx(angle, abs=1e-5)
    assert row["cosine"] < 0.999


def test_a_result_without_numbers_fails(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="output embed holds NaN or infinite values") as caught:
        compare(tmp_path, make_graph(), make_graph(factor=float("nan")))
    assert caught.value.exit_code == 6


def test_an_original_without_numbers_is_its_owners_fault(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="holds NaN or infinite values") as caught:
        compare(tmp_path, make_graph(factor=float("inf")), make_graph())
    assert caught.value.exit_code == 2


def test_a_result_that_cannot_be_loaded_fails(tmp_path: Path) -> None:
    wrong = make_graph()
    wrong.graph.node[3].input[1] = "nothing"
    with pytest.raises(StageError, match="cannot run") as caught:
        compare(tmp_path, make_graph(), wrong)
    assert caught.value.exit_code == 6


def test_the_second_graph_gets_the_entries_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    class Watched(Session):
        def __init__(self, path: Path, threads: int, **given: Any) -> None:
            opened.append((path.parent.name, given))
            super().__init__(path, threads, **given)

    monkeypatch.setattr(compare_files, "Session", Watched)
    entry = {"session.disable_quant_qdq": "1"}
    compare(tmp_path, make_graph(), make_graph(), session=entry)
    assert opened == [("before", {"config": {}}), ("after", {"config": entry})]
