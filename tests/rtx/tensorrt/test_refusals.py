"""Refusals in TensorRT's words and in ours."""

import re
from collections.abc import Iterator

import pytest

from exporters.tensorrt.refusals import REFUSALS, UNKNOWN_NEXT, Refusal, explain
from tests.rtx.small_graphs import REFUSED
from tests.rtx.tensorrt.test_build import REFUSED as UNCOMPILED

# TensorRT says each of these of a small graph: see test_network.py and test_build.py.
SAID = [*(said for _, said, _ in REFUSED.values()), *UNCOMPILED.values()]


def words() -> Iterator[tuple[Refusal, str]]:
    """Each of the words that a pattern looks for."""
    for one in REFUSALS:
        for word in one.pattern.split("|"):
            yield one, word


@pytest.mark.parametrize(("refusal", "word"), list(words()))
def test_tensorrt_says_what_each_pattern_looks_for(refusal: Refusal, word: str) -> None:
    lines = [line for line in SAID if re.search(word, line)]
    assert lines
    for line in lines:
        assert explain("It was refused.", [line]).next == refusal.remedy


def test_what_is_understood_is_explained_beside_its_own_words() -> None:
    error = explain("It was refused.", ["INVALID_NODE at Add /a: must have same input types"])
    assert error.what == "It was refused."
    assert "weak typing" in error.why
    assert "INVALID_NODE at Add /a: must have same input types." in error.why
    assert "casts" in error.next


def test_what_is_not_understood_is_handed_on() -> None:
    error = explain("It was refused.", ["Something new", "and more"])
    assert error.why == "TensorRT says: Something new; and more."
    assert error.next == UNKNOWN_NEXT
    assert explain("It was refused.", []).why == "TensorRT says: Nothing."


def test_every_explanation_is_sentences() -> None:
    for one in REFUSALS:
        assert one.means[0].isupper()
        assert not one.means.endswith(".")
        assert one.remedy.endswith(".")
