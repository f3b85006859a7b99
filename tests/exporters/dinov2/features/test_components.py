"""Components of tokens, and the colours that they become."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.dinov2.features.components import find_components, to_colours


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    generator = np.random.default_rng(2)
    tokens = (generator.normal(size=(90, 7)) * (9, 5, 3, 2, 1, 1, 1) + 4).astype(np.float32)
    tokens = tokens @ np.linalg.qr(generator.normal(size=(7, 7)))[0].astype(np.float32)
    found = find_components(tokens)
    centred = tokens.astype(np.float64) - tokens.astype(np.float64).mean(axis=0)
    left, strengths, right = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.shares, (strengths**2 / (strengths**2).sum())[:3], rtol=1e-9)
    signs = np.sign(right[:3][np.arange(3), np.abs(right[:3]).argmax(axis=1)])
    np.testing.assert_allclose(found.scores, (left * strengths)[:, :3] * signs, atol=1e-9)


def test_the_sign_does_not_hang_on_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.random.default_rng(4).normal(size=(40, 6)).astype(np.float32)
    expected = find_components(tokens).scores
    solve = np.linalg.eigh

    def turned(matrix: NDArray[np.float64]) -> Any:
        values, directions = solve(matrix)
        return values, -directions

    monkeypatch.setattr(np.linalg, "eigh", turned)
    np.testing.assert_array_equal(find_components(tokens).scores, expected)


def test_what_rounding_makes_is_no_component() -> None:
    generator = np.random.default_rng(3)
    line = np.outer(generator.normal(size=60), (3, -2, 1, 0.5)) + 50
    found = find_components(line.astype(np.float32))
    assert found.shares == pytest.approx([1, 0, 0])
    assert found.shares[1:].tolist() == [0, 0]
    assert not found.scores[:, 1:].any() and found.scores[:, 0].any()


@pytest.mark.parametrize("tokens", [np.full((9, 4), 0.1), np.zeros((9, 4)), np.ones((1, 4))])
def test_tokens_that_are_equal_have_no_components(tokens: NDArray[np.float64]) -> None:
    found = find_components(tokens.astype(np.float32))
    assert not found.scores.any() and not found.shares.any()
    assert (to_colours(found.scores) == 128).all()


def test_few_outliers_do_not_dim_the_rest() -> None:
    scores = np.tile(np.linspace(-1, 1, 200)[:, np.newaxis], 3)
    calm = to_colours(scores)
    scores[[0, -1]] = [[-500] * 3, [900] * 3]
    wild = to_colours(scores)
    assert np.abs(calm.astype(int) - wild).max() <= 2
    assert (calm.min(), calm.max()) == (0, 255)
    assert (np.diff(calm[:, 0].astype(int)) >= 0).all()
