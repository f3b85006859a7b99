"""Memory attention in real arithmetic is attention, and its halves are upstream's pairs."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from exporters.sam2.tracker.attention import MemoryAttention, _Attention, _Layer, turn

WIDTH, MEMORY = 8, 4


def _upstream(heads: int = 1) -> Any:
    torch.manual_seed(0)
    return SimpleNamespace(
        num_heads=heads,
        internal_dim=WIDTH,
        q_proj=torch.nn.Linear(WIDTH, WIDTH).requires_grad_(False),
        k_proj=torch.nn.Linear(MEMORY, WIDTH).requires_grad_(False),
        v_proj=torch.nn.Linear(MEMORY, WIDTH).requires_grad_(False),
        out_proj=torch.nn.Linear(WIDTH, WIDTH).requires_grad_(False),
    )


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_mean_is_taken_first_and_mapped_afterwards(parts: int) -> None:
    upstream = _upstream()
    attention = _Attention(upstream, parts)
    tokens, memory = torch.randn(1, 8, WIDTH), torch.randn(3, 5, MEMORY)
    with torch.no_grad():
        query, key = upstream.q_proj(tokens), upstream.k_proj(memory)
        weights = torch.softmax(query @ key.transpose(1, 2) / WIDTH**0.5, dim=-1)
        expected = upstream.out_proj(weights @ upstream.v_proj(memory))
        found = attention(
            attention.query(tokens.transpose(1, 2)), attention.key(memory.transpose(1, 2)), memory
        )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_what_a_bias_excludes_has_no_weight() -> None:
    attention = _Attention(_upstream(), 2)
    tokens, memory = torch.randn(1, WIDTH, 4), torch.randn(1, 5, MEMORY)
    with torch.no_grad():
        query, key = attention.query(tokens), attention.key(memory.transpose(1, 2))
        bias = torch.tensor([0.0, -1e4, 0.0, -1e4, -1e4])[None, None]
        found = attention(query, key, memory, bias)
        expected = attention(query, key[:, :, [0, 2]], memory[:, [0, 2]])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_halves_turn_as_pairs_of_neighbours_do() -> None:
    """Of complex numbers, one for each pair of channels; each frame by the same angles."""
    frames, cells = 2, 3
    x, angles = torch.randn(2, frames * cells, WIDTH), torch.rand(cells, WIDTH // 2)
    pairs = torch.view_as_complex(x.reshape(2, frames, cells, WIDTH // 2, 2))
    expected = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles))
    sorted_halves = torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1).transpose(1, 2)
    table = (angles.cos().transpose(0, 1), angles.sin().transpose(0, 1))
    found = turn(sorted_halves, table).transpose(1, 2).reshape(2, frames, cells, 2, WIDTH // 2)
    torch.testing.assert_close(found, expected.transpose(3, 4))


def test_several_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="with 2 heads"):
        _Attention(_upstream(heads=2))


def test_other_kinds_of_upstream_are_refused() -> None:
    with pytest.raises(ValueError, match="does not add positions"):
        MemoryAttention(SimpleNamespace(pos_enc_at_input=False, batch_first=True), 4, parts=1)
    kind = {
        "pos_enc_at_attn": False,
        "pos_enc_at_cross_attn_queries": False,
        "pos_enc_at_cross_attn_keys": True,
        "activation_str": "gelu",
    }
    with pytest.raises(ValueError, match="of an unknown kind"):
        _Layer(SimpleNamespace(**kind), 1)
