"""What activations reach."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporters.graphs.sessions import CPU, run_kernels
from exporters.precision import ranges
from exporters.precision.ranges import HistogramObserver, RangeObserver, observe
from exporters.protocol import StageError
from tests.quantize.small_nets import make_picture


def test_what_is_no_number_stops_a_calibration(encoder: Path, tmp_path: Path) -> None:
    """onnxruntime's ReduceMax passes over it unless it comes first."""
    observer = RangeObserver(encoder, ["normed", "residual"], tmp_path / "observed", 1, CPU)
    picture = make_picture(0)
    observer.run({"image": picture})
    picture[0, 1, 20, 20] = np.nan
    with pytest.raises(StageError, match="NaN or infinite"):
        observer.run({"image": picture})


def test_a_range_is_the_largest_magnitude_of_all_runs(encoder: Path, tmp_path: Path) -> None:
    observer = RangeObserver(encoder, ["normed", "residual"], tmp_path / "observed", 1, CPU)
    reached = []
    for seed in (0, 1, 2):
        observer.run({"image": make_picture(seed)})
        reached.append(dict(observer.largest))
    assert observer.runs == 3
    for name in ("normed", "residual"):
        assert 0 < reached[0][name] <= reached[1][name] <= reached[2][name]
    observer.run({"image": make_picture(0)})
    assert dict(observer.largest) == reached[2]


def test_magnitudes_are_counted_the_same_however_few_are_fetched_at_once(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = {"normed": 4.0, "residual": 9.0}
    found = []
    for name, room in (("at once", ranges.FETCHED_BYTES), ("one by one", 1)):
        monkeypatch.setattr(ranges, "FETCHED_BYTES", room)
        observer = HistogramObserver(encoder, largest, tmp_path / name, 1, CPU)
        outputs = observer.run({"image": make_picture(0)})
        assert outputs and not set(outputs) & set(largest)
        found.append(observer.thresholds())
    assert found[0] == found[1]
    for name, edge in largest.items():
        assert 0 < found[0][name] <= edge


def test_what_is_not_observed_runs_elsewhere() -> None:
    def others(graph: str, _: Mapping[str, Any]) -> dict[str, Any]:
        return {"from": graph}

    observer: Any = SimpleNamespace(run=lambda _: {"from": "the observer"})
    run = observe({"encoder": observer}, others)
    assert run("encoder", {})["from"] == "the observer"
    assert run("decoder", {})["from"] == "decoder"


def write_dropping(folder: Path) -> Path:
    """`root` is NaN below 0, and `kept` passes over that; `mask` is infinite where x is 0."""
    node, value = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("Sqrt", ["x"], ["root"]),
        node("IsNaN", ["root"], ["strange"]),
        node("Where", ["strange", "x", "root"], ["kept"]),
        node("Reciprocal", ["x"], ["mask"]),
        node("Min", ["mask", "kept"], ["y"]),
    ]
    ends = [value(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph(nodes, "dropping", ends[:1], ends[1:])
    folder.mkdir(exist_ok=True)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "graph.onnx")
    return folder / "graph.onnx"


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_number_is_seen_where_no_output_shows_it(tmp_path: Path, place: int) -> None:
    path = write_dropping(tmp_path)
    for name, seen in (("required", (["root"], [])), ("others", ([], ["root", "mask"]))):
        observer = RangeObserver(path, seen[0], tmp_path / name, 1, CPU, seen[1])
        x = np.array([4, 9], np.float32)
        assert observer.run({"x": x})["y"].tolist() == pytest.approx([1 / 4, 1 / 9])
        assert observer.largest["root"] == 3.0
        x[place] = -1
        with pytest.raises(StageError, match="root holds NaN"):
            observer.run({"x": x})


def test_what_is_infinite_is_the_largest_unless_it_has_to_be_finite(tmp_path: Path) -> None:
    path = write_dropping(tmp_path)
    x = {"x": np.array([0, 9], np.float32)}
    observer = RangeObserver(path, ["kept"], tmp_path / "a", 1, CPU, ["mask", "root"])
    observer.run(x)
    assert observer.largest == {"kept": 3.0, "mask": np.inf, "root": 3.0}
    with pytest.raises(StageError, match="mask holds NaN or infinite"):
        RangeObserver(path, ["mask"], tmp_path / "b", 1, CPU).run(x)


def test_a_value_is_done_with_before_the_next_is_made(encoder: Path, tmp_path: Path) -> None:
    """Otherwise all of a graph's values would be in memory at once."""
    names = ["normed", "qkv", "logits", "attended", "residual", "up_sum", "head"]
    RangeObserver(encoder, names, tmp_path / "observed", 1, CPU)
    ran = run_kernels(tmp_path / "observed" / encoder.name, 1, {"image": make_picture(0)})
    assert [one.removesuffix("__sum") for _, one in ran if one.endswith("__sum")] == names
    done = [index for index, (_, one) in enumerate(ran) if one.endswith("__sum")]
    # The network's own kernels stand between.
    assert all(later - earlier > 3 for earlier, later in pairwise(done))
