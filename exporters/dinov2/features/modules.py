"""DINOv2 as one module: a normalized picture in, its tokens out, from timm's own values.

It computes what Meta's `forward_features` does, in an order of operators that a trace turns into a
graph without shapes: tokens are rows of a matrix from the first block to the last, and class token,
registers and positions are one table.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from timm.layers.mlp import GluMlp
from torch import Tensor
from torch.nn.functional import pad, silu

# How many heads may come one after the other, by the contracts' parameter `attention`: those of the
# base model, the large one has 16; or none.
MOST_IN_TURN: Final[Mapping[str, int]] = {"split": 12, "whole": 0}


class Features(torch.nn.Module):
    """Tokens after the final norm, as many outputs as `outputs` names.

    Input: float32 [B, 3, H, W]. Outputs, in the order of `outputs`: cls_token [B, D],
    register_tokens [B, R, D], patch_tokens [B, P, D], the last row by row of the picture.

    Args:
        vit: timm's `VisionTransformer`, of any size; its parts are used, not its code.
        positions: float32 [P, D], for the patches of this size.
        outputs: Some of the three names.
        most_in_turn: Up to how many heads come one after the other; see `Attention`.

    Raises:
        ValueError: The network is not of DINOv2's kind.
    """

    table: Tensor

    def __init__(
        self, vit: Any, positions: Tensor, outputs: Sequence[str], *, most_in_turn: int
    ) -> None:
        super().__init__()
        check_configuration(vit)
        first = first_tokens(vit)
        self.register_buffer("table", torch.cat([first, positions]))
        self.project = vit.patch_embed.proj
        self.blocks = torch.nn.ModuleList(
            Block(block, len(self.table), most_in_turn) for block in vit.blocks
        )
        self.norm = vit.norm
        kinds = {"cls_token": 1, "register_tokens": len(first) - 1, "patch_tokens": len(positions)}
        self.kinds = {name: count for name, count in kinds.items() if count}
        self.outputs = tuple(outputs)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the contract's outputs."""
        count, width = (int(size) for size in self.table.shape)
        patches = self.project(image).flatten(2).transpose(1, 2)
        # The table holds the tokens that are no patches: adding it to zeros puts them in.
        tokens = pad(patches, (0, 0, count - self.kinds["patch_tokens"], 0)) + self.table
        tokens = tokens.reshape(-1, width)
        for block in self.blocks:
            tokens = block(tokens)
        normed = self.norm(tokens).reshape(-1, count, width)
        parts = torch.split(normed, list(self.kinds.values()), dim=1)
        found = dict(zip(self.kinds, parts, strict=True))
        found["cls_token"] = found["cls_token"].reshape(-1, width)
        return tuple(found[name] for name in self.outputs)


class Block(torch.nn.Module):
    """A block of the network, on tokens [B * N, D]."""

    def __init__(self, upstream: Any, count: int, most_in_turn: int) -> None:
        super().__init__()
        self.norms = torch.nn.ModuleList([upstream.norm1, upstream.norm2])
        self.attention = Attention(upstream.attn, count, most_in_turn)
        gated = isinstance(upstream.mlp, GluMlp)
        self.feed_forward = GatedFeedForward(upstream.mlp) if gated else upstream.mlp
        self.scales = torch.nn.ModuleList([upstream.ls1, upstream.ls2])

    def forward(self, tokens: Tensor) -> Tensor:
        """Map float32 [B * N, D] to the same."""
        tokens = tokens + self.scales[0](self.attention(self.norms[0](tokens)))
        result: Tensor = tokens + self.scales[1](self.feed_forward(self.norms[1](tokens)))
        return result


class Attention(torch.nn.Module):
    """Attention among the N tokens of each picture.

    A small model's heads come one after the other. The scores of all of them are 45 MB a picture,
    those of one are 8: the smaller stay in a processor's cache until they have been used. Channels
    lie head by head, so that to take them apart needs no transposition; and queries lie in two
    halves, as if of two pictures, for a runtime that deals out whole matrices to its threads.

    A larger model's attention is a smaller share of its work, and its many heads would be so many
    nodes that a runtime takes seconds to open the graph: there all heads come at once. So they do
    for TensorRT, which may fuse attention that is in one piece.
    """

    def __init__(self, upstream: Any, count: int, most_in_turn: int) -> None:
        super().__init__()
        self.heads = int(upstream.num_heads)
        self.one_by_one = self.heads <= most_in_turn
        self.scale = float(upstream.scale)
        self.count = count
        self.inner, self.outer = upstream.qkv, upstream.proj

    def forward(self, tokens: Tensor) -> Tensor:
        """Map float32 [B * N, D] to the same."""
        mapped = self.inner(tokens)
        means = self.in_turn(mapped) if self.one_by_one else self.at_once(mapped)
        result: Tensor = self.outer(means.reshape(-1, int(tokens.shape[1])))
        return result

    def at_once(self, mapped: Tensor) -> Tensor:
        """Return queries, keys and values [B * N, 3 D] to means [B, N, H, C]."""
        channels = int(mapped.shape[1]) // (3 * self.heads)
        parts = mapped.reshape(-1, self.count, 3 * self.heads, channels).transpose(1, 2)
        query, key, value = torch.split(parts, self.heads, dim=1)
        return attend(query * self.scale, key, value).transpose(1, 2)

    def in_turn(self, mapped: Tensor) -> Tensor:
        """Return queries, keys and values [B * N, 3 D] to means [B, N, D], or as two halves of
        N.
        """
        width = int(mapped.shape[1]) // 3
        channels = width // self.heads
        parts = mapped.reshape(-1, 1, self.count, 3 * width)
        query, *others = torch.split(parts, [width] + [channels] * (2 * self.heads), dim=3)
        query = query * self.scale
        if self.count % 2:
            query = pad(query, (0, 0, 0, 1))
        halves = query.reshape(-1, 2, (self.count + 1) // 2, width)
        queries = torch.split(halves, channels, dim=3)
        keys, values = others[: self.heads], others[self.heads :]
        heads = [attend(*head) for head in zip(queries, keys, values, strict=True)]
        means = torch.cat(heads, dim=3)
        if self.count % 2:
            means = means.reshape(-1, self.count + 1, width)[:, : self.count]
        return means


class GatedFeedForward(torch.nn.Module):
    """The giant's SwiGLU, with both halves of its first layer from one `Split`."""

    def __init__(self, upstream: Any) -> None:
        super().__init__()
        self.wide, self.narrow = upstream.fc1, upstream.fc2

    def forward(self, tokens: Tensor) -> Tensor:
        """Map float32 [B * N, D] to the same."""
        wide = self.wide(tokens)
        gate, passed = torch.split(wide, int(wide.shape[1]) // 2, dim=1)
        result: Tensor = self.narrow(silu(gate) * passed)
        return result


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend from scaled queries [B, X, M, C], keys and values [B, X or 1, N, C] to means [B, X, M,
    C].
    """
    return torch.softmax(query @ key.transpose(2, 3), dim=-1) @ value


def first_tokens(vit: Any) -> Tensor:
    """Return the class token, with its position, and registers, which have none: float32 [1 + R,
    D].

    timm keeps the class token's position apart where there are no registers.
    """
    if vit.reg_token is None:
        placed: Tensor = vit.cls_token[0] + vit.pos_embed[0, :1]
        return placed
    return torch.cat([vit.cls_token[0], vit.reg_token[0]])


def check_configuration(vit: Any) -> None:
    """Raise ValueError where a network has parts that DINOv2 has not, or lacks one that it has."""
    absent = {"norm_pre": vit.norm_pre, "patch_embed.norm": vit.patch_embed.norm}
    scales: dict[str, Any] = {}
    for number, block in enumerate(vit.blocks):
        parts = {
            "attn.q_norm": block.attn.q_norm,
            "attn.k_norm": block.attn.k_norm,
            "attn.norm": block.attn.norm,
            "mlp.norm": block.mlp.norm,
        }
        absent |= {f"blocks.{number}.{name}": part for name, part in parts.items()}
        scales |= {f"blocks.{number}.ls{one}": getattr(block, f"ls{one}") for one in (1, 2)}
    wrong = [name for name, part in absent.items() if not isinstance(part, torch.nn.Identity)]
    wrong += [name for name, part in scales.items() if not hasattr(part, "gamma")]
    if (vit.reg_token is not None) != vit.no_embed_class:
        wrong.append("pos_embed")
    if wrong:
        raise ValueError(f"not a network of DINOv2's kind: {', '.join(wrong[:4])}")
