"""The cases of each graph: every size and kind that a tracker meets."""

import itertools

import numpy as np
import pytest

from exporters.sam2.tracker.cases import (
    FULL_SIZE,
    Grid,
    attention_cases,
    decoder_cases,
    read_grid,
)
from tests.exporters.sam2.tracker.models import GRID


@pytest.mark.parametrize("grid", [FULL_SIZE, read_grid({"grid": GRID})])
def test_every_pair_of_sizes_is_tried(grid: Grid) -> None:
    axes = (grid.memory_frames, grid.pointers, grid.batches)
    combinations = grid.combinations()
    assert len(combinations) < len(list(itertools.product(*axes)))
    for a, b in itertools.combinations(range(3), 2):
        tried = {(one[a], one[b]) for one in combinations}
        assert tried == set(itertools.product(axes[a], axes[b]))


def test_attention_cases_stay_within_what_a_tracker_meets() -> None:
    cases = attention_cases(read_grid({"grid": GRID}), np.random.default_rng(0))
    for case in cases:
        assert len({len(bank.frames_ago) for bank in case.banks}) == 1
        assert len({len(bank.positions) for bank in case.banks}) == 1
        for bank in case.banks:
            assert 1 <= len(bank.frames_ago) <= 7 and 1 <= len(bank.positions) <= 16
            assert bank.frames_ago[0] == 0 and set(bank.frames_ago) <= set(range(7))
    odd = [case for case in cases if case.conditioning is None]
    assert len(odd) == 2
    assert any(position < 0 for case in odd for bank in case.banks for position in bank.positions)
    for case in odd:
        assert len(set(case.banks)) == len(case.banks)


def test_decoder_cases_have_every_kind() -> None:
    cases = decoder_cases(FULL_SIZE)
    labels = {row.labels for case in cases for row in case.rows}
    assert {(-1,), (1,), (1, 0), (2, 3), (2, 3, 0), (1, -1)} <= labels
    assert {row.multimask for case in cases for row in case.rows} == {True, False}
    assert any(len({row.multimask for row in case.rows}) == 2 for case in cases)
    assert any(len({row.mask for row in case.rows}) == 2 for case in cases)
    assert {len(case.rows) for case in cases} >= {1, 3}
