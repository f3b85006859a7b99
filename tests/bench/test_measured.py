"""What sides of a bench have in common: ratios, and promises at their very bound."""

import pytest

from bench.measured import Promise, compare_bars, median_ratio


@pytest.mark.parametrize(
    ("value", "at_least", "ok", "text"),
    [
        (3.0, False, True, "<= 3x ok"),
        (3.01, False, False, "<= 3x MISSED"),
        (3.0, True, True, ">= 3x ok"),
        (2.99, True, False, ">= 3x MISSED"),
    ],
)
def test_a_promise_is_kept_at_its_bound(value: float, at_least: bool, ok: bool, text: str) -> None:
    promise = Promise(name="speed", value=value, bound=3.0, unit="x", at_least=at_least)
    assert (promise.ok, promise.text) == (ok, text)


def test_a_bound_is_told_in_its_unit() -> None:
    assert Promise(name="a", value=1, bound=29e6, unit="bytes").text == "<= 29.0 MB ok"
    assert Promise(name="a", value=1, bound=0.3, unit="s").text == "<= 300 ms MISSED"


def test_a_ratio_is_taken_round_by_round() -> None:
    assert median_ratio([1.0, 9.0, 9.0], [1.0, 9.0, 8.0]) == 1.0
    with pytest.raises(ValueError, match="shorter"):
        median_ratio([1.0, 2.0], [1.0])


def test_our_bar_is_brought_out() -> None:
    chart = compare_bars("t", {"ours": 1.5, "theirs": 0.25}, "s", 1.0, ours="ours")
    shown = [(bar.label, bar.text, bar.ours) for bar in chart.bars]
    assert shown == [("ours", "1.50 s", True), ("theirs", "250 ms", False)]
    assert chart.mark == 1.0
