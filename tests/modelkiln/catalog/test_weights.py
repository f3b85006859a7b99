"""Weights: the words that name them, and how a target's name has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkiln.catalog.selection import select_targets
from modelkiln.catalog.weights import FileWeights, RandomWeights, parse_weights
from modelkiln.errors import UsageError
from tests.modelkiln.catalog.shared import CATALOG, OFFICIAL


@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_a_seed_survives_its_name(seed: int) -> None:
    weights = parse_weights(f"random:{seed}")
    assert weights == RandomWeights(seed=seed)
    text = f"sam2_hiera_tiny{weights.suffix}/image/onnx-fp32"
    assert select_targets(CATALOG, [text], OFFICIAL)[0].weights == weights


@pytest.mark.parametrize("text", ["random:x", "random:-1", f"random:{2**32}", "random:1.0"])
def test_a_wrong_seed_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a seed"):
        parse_weights(text)


def test_a_path_is_no_word() -> None:
    assert parse_weights("./official.pt") is None


def test_each_kind_has_a_name_and_a_label() -> None:
    own = FileWeights(path="/a/b.pt", sha256="ab" * 32, format="pt", bytes=1)
    assert [(one.suffix, one.label) for one in (OFFICIAL, RandomWeights(seed=7), own)] == [
        ("", "official"),
        ("+random7", "random:7"),
        ("+abababababab", f"sha256:{'ab' * 32}"),
    ]


def test_the_words_are_read() -> None:
    assert parse_weights("official") == OFFICIAL
    assert parse_weights("random") == RandomWeights(seed=0)
    assert parse_weights("randomly.pt") is None
