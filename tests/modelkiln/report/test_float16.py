"""The range of float16 in words."""

import pytest

from modelkiln.report.float16 import read_ranges, say_kept, say_magnitude, say_range
from tests.modelkiln.quality_case import PLAN

(ROW,) = read_ranges(PLAN)


def test_graphs_without_float16_have_no_range() -> None:
    assert list(read_ranges({})) == []
    assert list(read_ranges({"graphs": {"encoder": {"layers": []}}})) == []


def test_a_range_is_said_from_the_largest_down() -> None:
    first, *close, last = say_range(ROW)
    assert first == (
        "encoder reaches infinity of float16's 65504 "
        "(blocks.2.add; 258 values over the calibration pictures)"
    )
    assert close == [
        "  blocks.2.add reaches infinity: stays in float32",
        "  blocks.1.mlp reaches 70123: stays in float32",
        "  blocks.1.qkv reaches 40000: float16, above half of its range",
    ]
    assert last.strip() == say_kept(ROW)


def test_a_graph_that_is_far_from_the_end_is_one_line() -> None:
    quiet = {**ROW, "tensor": "x", "largest": 812.44, "close": [], "kept": []}
    (line,) = say_range(quiet)  # type: ignore[arg-type]
    assert line.startswith("encoder reaches 812.4 of float16's 65504 (x;")


def test_one_operator_stays() -> None:
    assert say_kept({**ROW, "kept": [("Add", 1)]}).startswith("1 operator stays in float32")


@pytest.mark.parametrize(
    ("value", "said"), [(None, "infinity"), (0.01234567, "0.01235"), (40000.4, "40000"),
                        (65504.0, "65504"), (3.21e6, "3.21e+06")],
)  # fmt: skip
def test_magnitudes(value: float | None, said: str) -> None:
    assert say_magnitude(value) == said
