"""The figures that decide: relative to the tensor's own scale, and never fooled by NaN."""

import json

import numpy as np
import pytest

from exporters.checks.parity import (
    Energy,
    as_json,
    compare_scores,
)
from exporters.checks.verdict import require_ok, summarize
from exporters.protocol import StageError
from tests.exporters.checks.made import made_masks, made_step, made_tensors


def test_the_bound_is_relative_to_the_largest_value() -> None:
    expected = np.array([100.0, 1.0])
    assert made_tensors(expected, expected + np.array([0, 9e-4])).ok
    assert not made_tensors(expected, expected + np.array([0, 1.1e-3])).ok


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_fails(wrong: float) -> None:
    check = made_tensors(np.ones(3), np.array([1.0, wrong, 1.0]))
    assert not check.ok
    json.dumps(as_json(check), allow_nan=False)


def test_another_shape_fails() -> None:
    assert not made_tensors(np.ones((1, 3)), np.ones((3, 1))).ok


def test_an_expected_zero_must_be_zero() -> None:
    assert made_tensors(np.zeros(2), np.zeros(2)).ok
    assert not made_tensors(np.zeros(2), np.array([0, 1e-20])).ok


def test_a_reference_that_is_not_finite_fails() -> None:
    assert not made_tensors(np.array([np.nan]), np.array([1.0])).ok
    assert not made_tensors(np.array([np.inf]), np.array([1.0])).ok


def test_masks_count_when_they_cover_enough() -> None:
    half = np.zeros((10, 10), bool)
    half[:5] = True
    assert made_masks(half, half).counted
    other = half.copy()
    other[5, 0] = True
    assert not made_masks(half, other).ok
    empty = np.zeros((10, 10), bool)
    assert not made_masks(empty, empty).counted
    assert made_masks(empty, half).ok
    assert not made_masks(~empty, half).counted


def test_signal_and_noise_are_summed_over_all_elements() -> None:
    expected = np.array([3.0, -4.0, 0.0])
    check = made_tensors(expected, expected + np.array([0.3, 0.0, -0.4]))
    assert check.energy.reference == pytest.approx(25)
    assert check.energy.noise == pytest.approx(0.25, rel=1e-6)
    assert check.energy.snr_db == pytest.approx(20, abs=1e-5)
    found = np.array([3.3, -4.0, -0.4])
    cosine = expected @ found / np.linalg.norm(expected) / np.linalg.norm(found)
    assert check.energy.cosine == pytest.approx(cosine, rel=1e-6)


def test_energies_pool_and_do_not_average_decibels() -> None:
    loud = made_tensors(np.array([10.0]), np.array([11.0])).energy
    quiet = made_tensors(np.array([1.0]), np.array([0.9])).energy
    assert loud.snr_db == pytest.approx(20, abs=1e-4) == quiet.snr_db
    assert (loud + quiet).snr_db == pytest.approx(20, abs=1e-4)
    worse = loud + made_tensors(np.array([1.0]), np.array([2.0])).energy
    assert worse.snr_db == pytest.approx(10 * np.log10(101 / 2), abs=1e-4)


def test_a_ratio_has_ends() -> None:
    same = made_tensors(np.ones(3), np.ones(3)).energy
    assert (same.snr_db, same.cosine) == (np.inf, 1.0)
    for wrong in (np.array([np.nan, 1, 1]), np.ones((1, 3))):
        check = made_tensors(np.ones(3), wrong)
        assert not check.finite
        assert (check.energy.snr_db, check.energy.cosine) == (-np.inf, -1.0)
        # One such case spoils whatever it is pooled with.
        assert (same + check.energy).snr_db == -np.inf
    nothing = made_tensors(np.zeros(2), np.ones(2)).energy
    assert (nothing.snr_db, nothing.cosine) == (-np.inf, -1.0)
    assert Energy().snr_db == np.inf


def test_large_tensors_are_summed_in_float64() -> None:
    expected = np.full(1 << 20, 3e3, np.float32)
    found = expected * np.float32(1.01)
    assert made_tensors(expected, found).energy.snr_db == pytest.approx(40, abs=1e-2)
    huge = np.full(4, 3e38, np.float32)
    assert made_tensors(huge, huge * np.float32(0.9)).energy.snr_db == pytest.approx(20, abs=1e-3)


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
        made_tensors(np.ones(2), np.ones(2)),
        made_masks(np.ones((2, 2), bool), np.ones((2, 2), bool)),
    )
    for check in (tensor, mask):
        assert not {"energy", "photograph", "exact"} & set(as_json(check))


def test_a_step_fails_by_mask_by_sign_and_by_pointer() -> None:
    empty, other = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    other[:4] = True
    assert made_step().ok and made_step().counted
    assert not made_step(found_mask=other).ok
    assert not made_step(found_occlusion=-0.001).ok
    assert not made_step(found_occlusion=float("nan")).ok
    assert not made_step(pointer=np.array([1, 1, 2, 3], np.float32)).ok
    assert not made_step(pointer=np.full(4, np.nan, np.float32)).ok
    hidden = made_step(mask=empty, found_mask=empty, occlusion=-3.0, found_occlusion=-2.0)
    assert hidden.ok and not hidden.counted and not hidden.seen
    assert not made_step(mask=empty, occlusion=-3.0, found_occlusion=-2.0).ok
