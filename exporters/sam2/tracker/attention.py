"""Memory attention in real arithmetic: upstream's numbers, from a smaller and faster graph.

Three things are exact and cost nothing at run time:

- Rotary encoding turns pairs of neighbouring channels. With the rows of the query and key
  projections sorted, even channels first, it turns halves instead: two products and a sum.
- One table serves every frame of memory, by broadcasting.
- Values are a linear map of the memory, and attention is a weighted mean: the mean of the 64
  channels is taken first and mapped afterwards, by the value and output projections in one.

Keys, and what they are made of, have their channels before their tokens, as memory arrives and as
the product with the queries wants them.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from exporters.sam2.tracker.tables import fixed_product, rotary_positions

Table = tuple[Tensor, Tensor]

# In how many parts queries look at memory, by the contracts' parameter `attention`. The weights of
# 4096 queries for seven frames' 28,736 keys take 471 MB, more than once. On a CPU a quarter at a
# time costs no speed; many small parts do. TensorRT is given one piece, which it may fuse.
PARTS: Final[Mapping[str, int]] = {"split": 4, "whole": 1}


class MemoryAttention(torch.nn.Module):
    """Upstream's `MemoryAttention` (arXiv 2408.00714, section 4) for memory kept in two parts.

    Args:
        upstream: Upstream's module.
        side: Cells along each side of a frame's map.
        parts: In how many equal parts queries attend to memory, one after the other; divides N.
    """

    def __init__(self, upstream: Any, side: int, *, parts: int) -> None:
        super().__init__()
        if not (upstream.pos_enc_at_input and upstream.batch_first):
            raise ValueError("memory attention that does not add positions to its input")
        self.layers = torch.nn.ModuleList(_Layer(layer, parts) for layer in upstream.layers)
        self.norm = upstream.norm
        theta = float(upstream.layers[0].self_attn.compute_cis.keywords["theta"])
        self.cosines, self.sines = rotary_positions(side, int(upstream.d_model), theta)

    def forward(
        self,
        features: Tensor,
        positions: Tensor,
        memory: Tensor,
        memory_positions: Tensor,
        pointers: Tensor,
        pointer_positions: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Condition a frame's features on an object's memory.

        Args:
            features: [1, N, 256], one token for each of the N cells of the frame.
            positions: [1, N, 256].
            memory: [B, 64, F, N], the cells of F remembered frames.
            memory_positions: [B, 64, F, N], of place and time.
            pointers: [B, 64, P, 4], four tokens for each of P pointers.
            pointer_positions: [B or 1, 64 or 1, P, 1], of time.
            bias: [B, 1, F N + 4 P], added to what queries and keys score; None adds nothing.

        Returns:
            [B, N, 256].
        """
        table = (self.cosines().transpose(0, 1), self.sines().transpose(0, 1))
        values = torch.cat([memory.flatten(2), pointers.flatten(2)], dim=2).transpose(1, 2)
        placed = (memory + memory_positions).flatten(2)
        timed = (pointers + pointer_positions).flatten(2)
        tokens = features + 0.1 * positions
        for layer in self.layers:
            tokens = layer(tokens, values, placed, timed, table, bias)
        result: Tensor = self.norm(tokens)
        return result


class _Layer(torch.nn.Module):
    """Self-attention, cross-attention to the memory, and a feed-forward network, each normed."""

    def __init__(self, upstream: Any, parts: int) -> None:
        super().__init__()
        placed = (
            upstream.pos_enc_at_attn,
            upstream.pos_enc_at_cross_attn_queries,
            upstream.pos_enc_at_cross_attn_keys,
        )
        if placed != (False, False, True) or upstream.activation_str != "relu":
            raise ValueError("a memory attention layer of an unknown kind")
        self.norms = torch.nn.ModuleList([upstream.norm1, upstream.norm2, upstream.norm3])
        self.own = _Attention(upstream.self_attn)
        self.memory = _Attention(upstream.cross_attn_image, parts)
        self.wide, self.narrow = upstream.linear1, upstream.linear2

    def forward(
        self,
        tokens: Tensor,
        values: Tensor,
        placed: Tensor,
        timed: Tensor,
        table: Table,
        bias: Tensor | None,
    ) -> Tensor:
        normed = self.norms[0](tokens)
        query, key = (turn(project(normed.transpose(1, 2)), table) for project in self.own.pair)
        tokens = tokens + self.own(query, key, normed)
        normed = self.norms[1](tokens)
        query = turn(self.memory.query(normed.transpose(1, 2)), table)
        # Pointers are of no place, so only the keys of cells are turned.
        key = torch.cat([turn(self.memory.key(placed), table), self.memory.key(timed)], dim=2)
        tokens = tokens + self.memory(query, key, values, bias)
        wide = torch.relu(self.wide(self.norms[2](tokens)))
        result: Tensor = tokens + self.narrow(wide)
        return result


class _Attention(torch.nn.Module):
    """One head: `query` and `key` project; `forward` weighs values that no one has projected."""

    def __init__(self, upstream: Any, parts: int = 1) -> None:
        super().__init__()
        self.parts = parts
        if upstream.num_heads != 1:
            raise ValueError(f"memory attention with {upstream.num_heads} heads")
        scale = 1 / math.sqrt(upstream.internal_dim)
        halves = torch.cat([torch.arange(start, upstream.internal_dim, 2) for start in (0, 1)])
        query, key = upstream.q_proj, upstream.k_proj
        # The scale is a power of two for 256 channels: folding it in changes no digit.
        self.query = _Projection(query.weight[halves] * scale, query.bias[halves] * scale)
        self.key = _Projection(key.weight[halves], key.bias[halves])
        outer, inner = upstream.out_proj, upstream.v_proj
        self.project = torch.nn.Linear(inner.in_features, outer.out_features)
        self.project.weight.data = fixed_product(outer.weight, inner.weight)
        mapped = fixed_product(outer.weight, inner.bias[:, None])[:, 0]
        self.project.bias.data = mapped + outer.bias

    @property
    def pair(self) -> tuple["_Projection", "_Projection"]:
        """The projections of queries and keys."""
        return self.query, self.key

    def forward(
        self, query: Tensor, key: Tensor, values: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Attend: query [B or 1, C, N], key [B, C, M], values [B, M, V], bias [B, 1, M] to
        [B, N, 256].
        """
        size = int(query.shape[2]) // self.parts
        queries = torch.split(query.transpose(1, 2), size, dim=1)
        scores = (part @ key if bias is None else part @ key + bias for part in queries)
        means = [torch.softmax(score, dim=-1) @ values for score in scores]
        result: Tensor = self.project(torch.cat(means, dim=1) if means[1:] else means[0])
        return result


class _Projection(torch.nn.Module):
    """A linear map of channels that come before tokens: [B, C, N] to [B, D, N]."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias = torch.nn.Parameter(bias.detach()[:, None].clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight @ x + self.bias


def turn(x: Tensor, table: Table) -> Tensor:
    """Apply the rotary encoding to [B, C, F N], by a table [C / 2, N] that serves each of
    F frames.
    """
    cosines, sines = (part[:, None] for part in table)
    halves = torch.split(x, int(x.shape[1]) // 2, dim=1)
    real, imaginary = (torch.unflatten(half, 2, (-1, int(cosines.shape[2]))) for half in halves)
    turned = [real * cosines - imaginary * sines, real * sines + imaginary * cosines]
    return torch.cat([half.flatten(2) for half in turned], dim=1)
