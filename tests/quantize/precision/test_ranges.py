"""What activations reach."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from exporters.graphs.sessions import CPU
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
