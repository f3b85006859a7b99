"""Position tables at other sizes: Meta's two rules, against what Meta's own function made."""

import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from exporters.dinov2.features.reference import interpolate_positions
from exporters.dinov2.position import resample

Floats = NDArray[np.float32]

SIDE: Final = 37
GOLDEN: Final[dict[str, Floats]] = dict(
    np.load(Path(__file__).parent / "data/dinov2_pos_embed_golden.npz")
)
TABLE: Final = GOLDEN["pos_embed"][0, 1:]
CASES: Final = sorted(set(GOLDEN) - {"pos_embed"})
ROUNDING: Final = 1e-6
# Bytes of float32 [24 * 48, 8], the same on any machine.
DIGESTS: Final = {
    False: "6c6572492c01492aa237b3b330809ddad83c0e20b8ebb7d3e414864ae529d021",
    True: "e491bda4fdef25af688b4516fd61c6a7a62df9f1c9f6166c30df31c89b6cb707",
}


def _read(case: str) -> tuple[bool, int, int]:
    """Whether a case has registers; its rows and columns."""
    kind, _, grid = case.partition("_")
    rows, cols = map(int, grid.split("x"))
    return kind == "reg4", rows, cols


def _off(found: Floats, expected: Floats) -> float:
    """The largest difference, relative to the expected table's scale."""
    assert found.shape == expected.shape and found.dtype == np.float32
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("case", CASES)
def test_a_table_is_meta_s(case: str) -> None:
    registers, rows, cols = _read(case)
    assert _off(resample(TABLE, rows, cols, registers=registers), GOLDEN[case][0, 1:]) <= ROUNDING


@pytest.mark.parametrize("case", [case for case in CASES if "37x37" not in case])
def test_the_other_kind_s_rule_is_another_table(case: str) -> None:
    registers, rows, cols = _read(case)
    assert _off(resample(TABLE, rows, cols, registers=not registers), GOLDEN[case][0, 1:]) > 0.1


@pytest.mark.parametrize("registers", [False, True])
def test_the_native_size_is_left_alone(registers: bool) -> None:
    assert resample(TABLE, SIDE, SIDE, registers=registers) is TABLE


@pytest.mark.parametrize("registers", [False, True])
def test_bytes_are_the_same_anywhere(registers: bool) -> None:
    table = resample(TABLE, 24, 48, registers=registers)
    assert table.flags.c_contiguous
    assert hashlib.sha256(table.tobytes()).hexdigest() == DIGESTS[registers]
    # The order of channels in memory decides nothing either.
    again = resample(np.asfortranarray(TABLE), 24, 48, registers=registers)
    assert again.tobytes() == table.tobytes()


@pytest.mark.parametrize("registers", [False, True])
@pytest.mark.parametrize("grid", [(37, 36), (36, 37), (1, 1), (2, 74), (74, 74), (1, SIDE * SIDE)])
def test_a_table_is_pytorch_s(grid: tuple[int, int], registers: bool) -> None:
    """Enlarged, shrunken, and native along one axis, where Meta's code interpolates both."""
    options: dict[str, Any] = {"size": grid, "antialias": True}
    if not registers:
        options = {"scale_factor": tuple((wanted + 0.1) / SIDE for wanted in grid)}
    plane = torch.from_numpy(TABLE.reshape(1, SIDE, SIDE, -1)).permute(0, 3, 1, 2)
    made = torch.nn.functional.interpolate(plane, mode="bicubic", **options)
    expected = made.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1).numpy()
    # PyTorch's rounding depends on the machine's instructions.
    assert _off(resample(TABLE, *grid, registers=registers), expected) <= 1e-5
    np.testing.assert_array_equal(_reference(*grid, registers=registers)[1:], expected)


@pytest.mark.parametrize("case", CASES)
def test_the_reference_has_meta_s_tables_too(case: str) -> None:
    registers, rows, cols = _read(case)
    assert _off(_reference(rows, cols, registers=registers), GOLDEN[case][0]) <= 5e-6


def _reference(rows: int, cols: int, *, registers: bool) -> Floats:
    """The table that the reference uses: float32 [1 + rows * cols, 8]."""
    params = {"native": 518, "patch": 14, "registers": 4 if registers else 0}
    found = interpolate_positions(torch.from_numpy(GOLDEN["pos_embed"]), (rows, cols), params)
    table: Floats = found[0].numpy()
    return table


def test_a_table_that_is_no_square_is_refused() -> None:
    with pytest.raises(ValueError, match="1368 places is no square"):
        resample(TABLE[1:], 4, 4, registers=False)
