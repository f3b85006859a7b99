"""The figures that decide: relative to the tensor's own scale, and never fooled by NaN."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.checks.parity import (
    Energy,
    MaskCheck,
    TensorCheck,
    as_json,
    compare_masks,
    compare_scores,
    compare_tensors,
)
from exporters.checks.verdict import require_ok, summarize
from exporters.protocol import StageError


def _tensors(expected: NDArray[Any], found: NDArray[Any], bound: float = 1e-5) -> TensorCheck:
    return compare_tensors(
        expected.astype(np.float32),
        found.astype(np.float32),
        graph="decoder",
        case="noise/one point",
        tensor="masks",
        bound=bound,
    )


def _masks(expected: NDArray[Any], found: NDArray[Any]) -> MaskCheck:
    return compare_masks(
        expected, found, case="noise/a box", mask="mask 1", bound=0.999, coverage=(0.02, 0.98)
    )


def test_the_bound_is_relative_to_the_largest_value() -> None:
    expected = np.array([100.0, 1.0])
    assert _tensors(expected, expected + np.array([0, 9e-4])).ok
    assert not _tensors(expected, expected + np.array([0, 1.1e-3])).ok


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_fails(wrong: float) -> None:
    check = _tensors(np.ones(3), np.array([1.0, wrong, 1.0]))
    assert not check.ok
    json.dumps(as_json(check), allow_nan=False)


def test_another_shape_fails() -> None:
    assert not _tensors(np.ones((1, 3)), np.ones((3, 1))).ok


def test_an_expected_zero_must_be_zero() -> None:
    assert _tensors(np.zeros(2), np.zeros(2)).ok
    assert not _tensors(np.zeros(2), np.array([0, 1e-20])).ok


def test_a_reference_that_is_not_finite_fails() -> None:
    assert not _tensors(np.array([np.nan]), np.array([1.0])).ok
    assert not _tensors(np.array([np.inf]), np.array([1.0])).ok


def test_masks_count_when_they_cover_enough() -> None:
    half = np.zeros((10, 10), bool)
    half[:5] = True
    assert _masks(half, half).counted
    other = half.copy()
    other[5, 0] = True
    assert not _masks(half, other).ok
    empty = np.zeros((10, 10), bool)
    assert not _masks(empty, empty).counted
    assert _masks(empty, half).ok
    assert not _masks(~empty, half).counted


def test_the_worst_is_named() -> None:
    good, bad = _tensors(np.ones(2), np.ones(2)), _tensors(np.ones(2), np.array([1, 1.5]))
    with pytest.raises(StageError) as failure:
        require_ok([good, bad])
    assert failure.value.exit_code == 6
    assert "decoder, noise/one point: masks differs by 5.00e-01" in failure.value.why


def test_too_few_masks_fail() -> None:
    half = np.zeros((10, 10), bool)
    half[:5] = True
    empty = np.zeros((10, 10), bool)
    counted, idle = _masks(half, half), _masks(empty, empty)
    require_ok([counted, idle])
    with pytest.raises(StageError, match="Only 1 of 3 masks could be judged"):
        require_ok([counted, idle, idle])
    with pytest.raises(StageError, match="Nothing was compared"):
        require_ok([])
    assert summarize([counted, idle])["masks_counted"] == 1


def test_signal_and_noise_are_summed_over_all_elements() -> None:
    expected = np.array([3.0, -4.0, 0.0])
    check = _tensors(expected, expected + np.array([0.3, 0.0, -0.4]))
    assert check.energy.reference == pytest.approx(25)
    assert check.energy.noise == pytest.approx(0.25, rel=1e-6)
    assert check.energy.snr_db == pytest.approx(20, abs=1e-5)
    found = np.array([3.3, -4.0, -0.4])
    cosine = expected @ found / np.linalg.norm(expected) / np.linalg.norm(found)
    assert check.energy.cosine == pytest.approx(cosine, rel=1e-6)


def test_energies_pool_and_do_not_average_decibels() -> None:
    loud = _tensors(np.array([10.0]), np.array([11.0])).energy
    quiet = _tensors(np.array([1.0]), np.array([0.9])).energy
    assert loud.snr_db == pytest.approx(20, abs=1e-4) == quiet.snr_db
    assert (loud + quiet).snr_db == pytest.approx(20, abs=1e-4)
    worse = loud + _tensors(np.array([1.0]), np.array([2.0])).energy
    assert worse.snr_db == pytest.approx(10 * np.log10(101 / 2), abs=1e-4)


def test_a_ratio_has_ends() -> None:
    same = _tensors(np.ones(3), np.ones(3)).energy
    assert (same.snr_db, same.cosine) == (np.inf, 1.0)
    for wrong in (np.array([np.nan, 1, 1]), np.ones((1, 3))):
        check = _tensors(np.ones(3), wrong)
        assert not check.finite
        assert (check.energy.snr_db, check.energy.cosine) == (-np.inf, -1.0)
        # One such case spoils whatever it is pooled with.
        assert (same + check.energy).snr_db == -np.inf
    nothing = _tensors(np.zeros(2), np.ones(2)).energy
    assert (nothing.snr_db, nothing.cosine) == (-np.inf, -1.0)
    assert Energy().snr_db == np.inf


def test_large_tensors_are_summed_in_float64() -> None:
    expected = np.full(1 << 20, 3e3, np.float32)
    found = expected * np.float32(1.01)
    assert _tensors(expected, found).energy.snr_db == pytest.approx(40, abs=1e-2)
    huge = np.full(4, 3e38, np.float32)
    assert _tensors(huge, huge * np.float32(0.9)).energy.snr_db == pytest.approx(20, abs=1e-3)


def test_scores_are_held_to_the_bound_and_averaged() -> None:
    expected = np.array([[0.5, 1.0], [0.25, 0.75]], np.float32)
    found = expected + np.array([[0, 0.1], [0, -0.3]], np.float32)
    check = compare_scores(expected, found, case="coffee.jpg/a box", bound=0.2)
    assert check.max_abs_diff == pytest.approx(0.3, rel=1e-5)
    assert check.mean_abs_diff == pytest.approx(0.1, rel=1e-5)
    assert not check.ok
    with pytest.raises(StageError, match="1 of 1 comparisons") as failure:
        require_ok([check])
    assert "the masks' scores differ by 3.00e-01" in failure.value.why
    assert compare_scores(expected, found, case="a", bound=0.31).ok
    broken = compare_scores(expected, found * np.nan, case="a", bound=0.31)
    assert not broken.ok
    json.dumps(as_json(broken), allow_nan=False)
    summary = summarize([check, compare_scores(expected, expected, case="b", bound=1)])["scores"]
    assert summary["cases"] == 2
    assert summary["mean_abs_diff"] == pytest.approx(0.05, rel=1e-5)


def test_what_only_quality_needs_is_not_written_for_float32() -> None:
    tensor, mask = (
        _tensors(np.ones(2), np.ones(2)),
        _masks(np.ones((2, 2), bool), np.ones((2, 2), bool)),
    )
    for check in (tensor, mask):
        assert not {"energy", "photograph", "exact"} & set(as_json(check))
