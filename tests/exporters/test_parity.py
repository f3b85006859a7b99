"""The figures that decide: relative to the tensor's own scale, and never fooled by NaN."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.parity import (
    MaskCheck,
    TensorCheck,
    as_json,
    compare_masks,
    compare_tensors,
)
from exporters.protocol import StageError
from exporters.verify import require_ok, summarize


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
