"""The stage calibrate: which pictures and which method find the ranges."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from exporters.graphs.structure import read_graph
from exporters.precision.float16_range import find_observed
from exporters.protocol import StageError
from tests.quantize.small_nets import (
    make_picture,
)
from tests.quantize.small_steps import (
    relative_error,
    run_calibrate,
    run_graph,
    run_quantize,
)


def test_every_picture_moves_the_ranges(
    encoder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    """Each picture is brighter than those before it, so each widens a range."""
    seen = []
    for count in range(1, len(pictures) + 1):
        found = run_calibrate(tmp_path / str(count), encoder, pictures[:count])
        assert found["pictures"] == [
            f"calibration/{index:05}-{path.name}" for index, path in enumerate(pictures[:count])
        ]
        seen.append(found["graphs"]["encoder"])
    for before, after in pairwise(seen):
        assert all(after[name] >= before[name] for name in before)
        assert any(after[name] > before[name] for name in before)
    # Whatever their order: all were looked at, not only the last.
    turned = run_calibrate(tmp_path / "turned", encoder, pictures[::-1])
    assert turned["graphs"]["encoder"] == seen[-1]


def test_entropy_clips_what_max_keeps(
    encoder: Path, pictures: list[Path], calibration: Mapping[str, Any], tmp_path: Path
) -> None:
    found = run_calibrate(tmp_path, encoder, pictures, calib_method="entropy")
    ranges, largest = found["graphs"]["encoder"], calibration["graphs"]["encoder"]
    assert found["method"] == "entropy"
    assert ranges.keys() == largest.keys()
    assert all(0 < ranges[name] <= largest[name] * 1.001 for name in ranges)
    assert any(ranges[name] < largest[name] * 0.98 for name in ranges)
    quantized, *_ = run_quantize(tmp_path, encoder, found)
    expected = run_graph(encoder, make_picture(7))
    assert 0 < relative_error(expected, run_graph(quantized, make_picture(7))) < 0.2


def test_all_values_are_observed_where_float16_comes(
    encoder: Path,
    pictures: list[Path],
    calibration: Mapping[str, Any],
    magnitudes: Mapping[str, Any],
    tmp_path: Path,
) -> None:
    assert calibration["largest"] == {}
    assert magnitudes["graphs"] == calibration["graphs"]
    seen = magnitudes["largest"]["encoder"]
    assert list(seen) == sorted(find_observed(read_graph(encoder)))
    assert all(value > 0 for value in seen.values())
    shared = seen.keys() & calibration["graphs"]["encoder"].keys()
    assert {name: seen[name] for name in shared} == {
        name: calibration["graphs"]["encoder"][name] for name in shared
    }
    # Thresholds of entropy are no maxima, and FP16 alone has no layer with a range.
    entropy = {"observe": "tensors", "calib_method": "entropy"}
    found = run_calibrate(tmp_path / "entropy", encoder, pictures, **entropy)
    assert found["largest"] == magnitudes["largest"]
    assert found["graphs"] != magnitudes["graphs"]
    half = run_calibrate(tmp_path / "half", encoder, pictures, observe="tensors", op_types=[])
    assert (half["largest"], half["graphs"]) == (magnitudes["largest"], {"encoder": {}})


def test_random_calibration(encoder: Path, tmp_path: Path) -> None:
    found = [
        run_calibrate(tmp_path / name, encoder, [], use_random_calib=True, calib_size=1)
        for name in ("a", "b")
    ]
    assert found[0] == found[1]
    assert (found[0]["pictures"], found[0]["random"]) == (["random"], True)


def test_a_gpu_that_is_not_there_is_never_the_cpu_in_silence(
    encoder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(StageError, match="cannot calibrate on the GPU") as caught:
        run_calibrate(tmp_path, encoder, pictures, calibration_eps=["cuda", "cpu"])
    assert caught.value.exit_code == 4
