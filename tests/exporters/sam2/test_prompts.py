"""Prompts are encoded as upstream's own PromptEncoder encodes them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from exporters.sam2.prompts import PromptEncoder

SIDE, SIZE, CHANNELS = 4, 64, 16


@pytest.fixture(scope="module")
def upstream() -> Any:
    """A small one, with random values."""
    from sam2.modeling.sam.prompt_encoder import PromptEncoder as Upstream

    torch.manual_seed(0)
    return Upstream(CHANNELS, (SIDE, SIDE), (SIZE, SIZE), mask_in_chans=4).eval()


@pytest.fixture
def encoder(upstream: Any) -> PromptEncoder:
    return PromptEncoder(SimpleNamespace(sam_prompt_encoder=upstream))


def test_positions_are_those_of_upstream(upstream: Any, encoder: PromptEncoder) -> None:
    with torch.no_grad():
        expected, found = upstream.get_dense_pe(), encoder.positions()
    assert found.shape == expected.shape == (1, CHANNELS, SIDE, SIDE)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_positions_tell_rows_from_columns(encoder: PromptEncoder) -> None:
    with torch.no_grad():
        found = encoder.positions()
    assert not torch.allclose(found, found.transpose(2, 3))


def test_points_are_those_of_upstream_with_one_of_padding(
    upstream: Any, encoder: PromptEncoder
) -> None:
    coords = torch.tensor([[[3.0, 50.0], [10.0, 20.0]], [[60.0, 5.0], [0.0, 0.0]]])
    labels = torch.tensor([[2, 3], [1, -1]])
    with torch.no_grad():
        expected = upstream._embed_points(coords.clone(), labels, pad=True)
        found = encoder.points(coords, labels)
    assert found.shape == (2, 3, CHANNELS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_mask_counts_where_it_is_there(upstream: Any, encoder: PromptEncoder) -> None:
    masks = torch.randn(2, 1, 4 * SIDE, 4 * SIDE)
    expected = upstream._embed_masks(masks[:1]).detach()
    masks[1] = float("nan")
    with torch.no_grad():
        found = encoder.masks(masks, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(found[:1], expected)
    assert torch.equal(found[1:], encoder.no_mask().expand(1, -1, SIDE, SIDE))
