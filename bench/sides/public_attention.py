"""Memory attention the way a public exporter writes it: what bench.tracker measures against.

NVIDIA's exporter for DeepStream is no package, so this graph is our own, with what is known of its
graph: rotary encoding as products of 2 x 2 rotation matrices with pairs of channels, the 8 MB table
of those matrices 13 times in the file and repeated for every frame of memory, rotated keys and
pointer times written back into slices (9 ScatterND), and values projected before they are averaged.
Where the facts leave a choice, the faster one is taken: the repeated table is made once, not in
each layer. Names, order and dims are those of the contract tracker.

Runs inside the export environment:

    python -m bench.sides.public_attention CONFIG WEIGHTS.safetensors OUT.onnx

It prints one line of JSON, what was counted in OUT.onnx; it fails where the number of tables or of
ScatterND is another than the known one:

    {"bytes": B, "nodes": N, "tables": T, "table_bytes": B, "ScatterND": N, "Expand": N, ...}
"""

import argparse
import json
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from onnx import ModelProto, TensorProto
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from bench.sides.attention_inputs import (
    DYNAMIC_AXES,
    MOST_POINTERS,
    NAMES,
    OUTPUT,
    TOKENS_PER_POINTER,
    make_inputs,
)
from exporters.sam2.model import load_model

TABLES: Final = 13
SCATTERS: Final = 9
TOLD: Final = ("ScatterND", "Expand", "Range", "Where", "Tile", "MatMul")


class PublicMemoryAttention(nn.Module):
    """Memory attention of a published SAM 2.1, with the inputs and the output of `tracker`.

    Args:
        sam: An unpatched `SAM2Base`; its parts are used, not its code.
        side: Cells along an axis of the feature map.
    """

    def __init__(self, sam: Any, side: int) -> None:
        super().__init__()
        self.side = side
        self.no_memory = sam.no_mem_embed
        self.times = sam.obj_ptr_tpos_proj
        self.layers = nn.ModuleList(_Layer(one) for one in sam.memory_attention.layers)
        self.norm = sam.memory_attention.norm
        theta = float(sam.memory_attention.layers[0].self_attn.compute_cis.keywords["theta"])
        # No buffer: a trace takes it for a new constant wherever it is used.
        self.matrices = rotation_matrices(side, int(sam.hidden_dim), theta)

    def forward(
        self,
        current_vision_feat: Tensor,
        current_vision_pos_embed: Tensor,
        memory_0: Tensor,
        memory_1: Tensor,
        memory_pos_embed: Tensor,
        cond_frame_id_diff: Tensor,
    ) -> Tensor:
        """Return the contract's one output."""
        batch, pointers, _ = memory_0.shape
        width = memory_1.shape[2]
        cells = memory_1.flatten(3).transpose(2, 3).flatten(1, 2)
        memory = torch.cat([cells, memory_0.reshape(batch, -1, width)], dim=1)
        tail = pointers * TOKENS_PER_POINTER
        positions = memory_pos_embed.clone()
        positions[:, positions.shape[1] - tail :] = self.encode_times(cond_frame_id_diff, pointers)
        features = current_vision_feat.flatten(2).transpose(1, 2) - self.no_memory
        tokens = features + 0.1 * current_vision_pos_embed.transpose(0, 1)
        tokens = tokens.expand(batch, -1, -1)
        frames = cells.shape[1] // self.matrices.shape[2]
        repeated = self.matrices.repeat(1, 1, frames, 1, 1, 1)
        for layer in self.layers:
            tokens = layer(tokens, memory, positions, tail, self.matrices, repeated)
        result: Tensor = self.norm(tokens)
        return result.transpose(1, 2).reshape(batch, -1, self.side, self.side)

    def encode_times(self, since: Tensor, pointers: int) -> Tensor:
        """Return times of P pointers, the first of them `since` frames ago: [1, 4 P, 64]."""
        steps = torch.arange(1, MOST_POINTERS, dtype=torch.float32)[: pointers - 1]
        times = torch.cat([since.reshape(1), steps]) / (MOST_POINTERS - 1)
        half = int(self.times.in_features) // 2
        channels = torch.arange(half, dtype=torch.float32)
        angles = times[:, None] / 10000 ** (2 * torch.floor(channels / 2) / half)
        encoded = self.times(torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1))
        repeated: Tensor = encoded[None, :, None].repeat(1, 1, TOKENS_PER_POINTER, 1)
        return repeated.flatten(1, 2)


class _Layer(nn.Module):
    """A layer of upstream's values and of this module's operators."""

    def __init__(self, upstream: Any) -> None:
        super().__init__()
        self.norms = nn.ModuleList([upstream.norm1, upstream.norm2, upstream.norm3])
        self.own, self.cross = _Attention(upstream.self_attn), _Attention(upstream.cross_attn_image)
        self.wide, self.narrow = upstream.linear1, upstream.linear2

    def forward(
        self,
        tokens: Tensor,
        memory: Tensor,
        positions: Tensor,
        tail: int,
        matrices: Tensor,
        repeated: Tensor,
    ) -> Tensor:
        normed = self.norms[0](tokens)
        tokens = tokens + self.own(normed, normed, normed, 0, matrices, matrices)
        normed = self.norms[1](tokens)
        placed = memory + positions
        tokens = tokens + self.cross(normed, placed, memory, tail, matrices, repeated)
        wide = torch.relu(self.wide(self.norms[2](tokens)))
        result: Tensor = tokens + self.narrow(wide)
        return result


class _Attention(nn.Module):
    """One head; all but the last `tail` keys are rotated."""

    def __init__(self, upstream: Any) -> None:
        super().__init__()
        self.query, self.key = upstream.q_proj, upstream.k_proj
        self.value, self.out = upstream.v_proj, upstream.out_proj

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        tail: int,
        query_matrices: Tensor,
        key_matrices: Tensor,
    ) -> Tensor:
        queries = rotate(split_heads(self.query(query)), query_matrices)
        keys = split_heads(self.key(key))
        rotated = keys.shape[2] - tail
        keys[:, :, :rotated] = rotate(keys[:, :, :rotated], key_matrices)
        mean = scaled_dot_product_attention(queries, keys, split_heads(self.value(value)))
        result: Tensor = self.out(join_heads(mean))
        return result


def split_heads(x: Tensor, heads: int = 1) -> Tensor:
    """Turn [B, N, C] to [B, heads, N, C / heads]; there is one head."""
    batch, count, channels = x.shape
    return x.reshape(batch, count, heads, channels // heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Turn [B, heads, N, C] to [B, N, heads C]."""
    batch, heads, count, channels = x.shape
    return x.transpose(1, 2).reshape(batch, count, heads * channels)


def rotation_matrices(side: int, channels: int, theta: float) -> Tensor:
    """Return float32 [1, 1, side * side, channels / 2, 2, 2]: column by column, then row by row
    angles.
    """
    quarter = channels // 4
    frequencies = 1 / theta ** (torch.arange(quarter, dtype=torch.float32) * 4 / channels)
    along = torch.arange(side, dtype=torch.float32)[:, None] * frequencies
    rows = along[:, None].expand(-1, side, -1)
    columns = along[None].expand(side, -1, -1)
    angles = torch.cat([columns, rows], dim=-1).reshape(side * side, -1)
    cosines, sines = torch.cos(angles), torch.sin(angles)
    matrices = torch.stack([cosines, -sines, sines, cosines], dim=-1)
    return matrices.reshape(1, 1, side * side, -1, 2, 2)


def rotate(x: Tensor, matrices: Tensor) -> Tensor:
    """Rotate [B, 1, N, C], each pair of channels as a column times its matrix."""
    batch, heads, count, channels = x.shape
    pairs = x.reshape(batch, heads, count, channels // 2, 2, 1)
    return (matrices @ pairs).flatten(3)


def write_graph(module: PublicMemoryAttention, path: Path, *, opset: int = 17) -> None:
    """Trace the module with the exporter's own operators and write it as it comes."""
    examples = make_inputs(frames=2, pointers=3, side=module.side)
    module.eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(torch.from_numpy(examples[name]) for name in NAMES),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=list(NAMES),
            output_names=[OUTPUT],
            dynamic_axes=DYNAMIC_AXES,
        )


def count_facts(model: ModelProto, side: int) -> dict[str, int]:
    """Return what the graph consists of; see the module's docstring."""
    ops = Counter(node.op_type for node in model.graph.node)
    tables = [one for one in _tensors(model) if list(one.dims[-4:]) == [side * side, 128, 2, 2]]
    return {
        "nodes": len(model.graph.node),
        "tables": len(tables),
        "table_bytes": max((len(one.raw_data) for one in tables), default=0),
        **{name: ops[name] for name in TOLD},
    }


def check_facts(facts: dict[str, int]) -> None:
    """Raise ValueError where the graph is not what it is said to be."""
    wanted = {"tables": TABLES, "ScatterND": SCATTERS}
    wrong = [f"{facts[name]} {name}, not {n}" for name, n in wanted.items() if facts[name] != n]
    if wrong:
        raise ValueError(f"the reference graph has {' and '.join(wrong)}")


def _tensors(model: ModelProto) -> list[TensorProto]:
    constants = [
        attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    return [*model.graph.initializer, *constants]


def main() -> None:
    """Read the command line, write the graph, print what is in it."""
    parser = argparse.ArgumentParser(description="The reference graph of bench.tracker.")
    parser.add_argument("config")
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--override", action="append", default=[])
    options = parser.parse_args()
    sam: Any = load_model(options.config, options.override, options.weights)
    side = int(sam.image_size) // int(sam.backbone_stride)
    write_graph(PublicMemoryAttention(sam, side), options.out)
    facts = count_facts(onnx.load_model(options.out), side)
    check_facts(facts)
    print(json.dumps({"bytes": options.out.stat().st_size, **facts}))


if __name__ == "__main__":
    main()
