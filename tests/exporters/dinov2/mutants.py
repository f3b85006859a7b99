"""DINOv2's part of `export` with faults in it, which `verify` must find."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from exporters.dinov2.features import export
from exporters.dinov2.model import load_model
from exporters.dinov2.position import Floats, resample
from exporters.graphs.tracing import Graph


def _drop_a_block(vit: Any) -> None:
    vit.blocks = torch.nn.Sequential(vit.blocks[0], vit.blocks[2])


def _swap_two_blocks(vit: Any) -> None:
    vit.blocks = torch.nn.Sequential(vit.blocks[0], vit.blocks[2], vit.blocks[1])


def _swap_two_norms(vit: Any) -> None:
    block = vit.blocks[1]
    block.norm1, block.norm2 = block.norm2, block.norm1


def _leave_out_a_layer_scale(vit: Any) -> None:
    vit.blocks[2].ls2.gamma.fill_(1)


def _swap_layer_scales(vit: Any) -> None:
    block = vit.blocks[0]
    block.ls1, block.ls2 = block.ls2, block.ls1


def _leave_out_the_last_norm(vit: Any) -> None:
    vit.norm.weight.fill_(1)
    vit.norm.bias.zero_()


def _halve_the_class_token(vit: Any) -> None:
    vit.cls_token.mul_(0.5)


def _transpose_patches(vit: Any) -> None:
    weight = vit.patch_embed.proj.weight
    weight.copy_(weight.transpose(2, 3).clone())


def _swap_colours(vit: Any) -> None:
    weight = vit.patch_embed.proj.weight
    weight.copy_(weight.flip(1))


def _swap_queries_and_keys(vit: Any) -> None:
    for name in ("weight", "bias"):
        value = getattr(vit.blocks[1].attn.qkv, name)
        query, key, rest = value.clone().tensor_split((48, 96))
        value.copy_(torch.cat((key, query, rest)))


def _swap_heads(vit: Any) -> None:
    weight = vit.blocks[1].attn.proj.weight
    weight.copy_(weight.roll(16, dims=1))


def _drop_a_register(vit: Any) -> None:
    vit.reg_token = torch.nn.Parameter(vit.reg_token[:, :3], requires_grad=False)
    vit.num_reg_tokens, vit.num_prefix_tokens = 3, 4


def _swap_two_registers(vit: Any) -> None:
    vit.reg_token.copy_(vit.reg_token[:, [1, 0, 2, 3]])


def _swap_gate_and_value(vit: Any) -> None:
    for name in ("weight", "bias"):
        value = getattr(vit.blocks[0].mlp.fc1, name)
        value.copy_(value.roll(len(value) // 2, dims=0))


def _transposed(grid: Floats, rows: int, cols: int, *, registers: bool) -> Floats:
    other = resample(grid, cols, rows, registers=registers)
    flipped: Floats = other.reshape(cols, rows, -1).swapaxes(0, 1).reshape(rows * cols, -1)
    return flipped


def _sides_swapped(grid: Floats, rows: int, cols: int, *, registers: bool) -> Floats:
    return resample(grid, cols, rows, registers=registers)


def _other_rule(grid: Floats, rows: int, cols: int, *, registers: bool) -> Floats:
    return resample(grid, rows, cols, registers=not registers)


NETWORKS: Final[Mapping[str, Callable[[Any], None]]] = {
    "drop a block": _drop_a_block,
    "swap two blocks": _swap_two_blocks,
    "swap two norms": _swap_two_norms,
    "leave out a LayerScale": _leave_out_a_layer_scale,
    "swap two LayerScales": _swap_layer_scales,
    "leave out the last norm": _leave_out_the_last_norm,
    "halve the class token": _halve_the_class_token,
    "transpose patches": _transpose_patches,
    "swap colours": _swap_colours,
    "swap queries and keys": _swap_queries_and_keys,
    "swap heads": _swap_heads,
}
OF_REGISTERS: Final[Mapping[str, Callable[[Any], None]]] = {
    "drop a register": _drop_a_register,
    "swap two registers": _swap_two_registers,
}
OF_GATES: Final[Mapping[str, Callable[[Any], None]]] = {
    "swap gate and value": _swap_gate_and_value,
}
POSITIONS: Final[Mapping[str, Callable[..., Floats]]] = {
    "the other kind's rule": _other_rule,
    "rows for columns": _sides_swapped,
}


def build_graphs(params: Mapping[str, Any], weights: Path) -> dict[str, Graph]:
    """The real graphs with the fault that `mutation` names."""
    mutation = params["mutation"]
    networks = {**NETWORKS, **OF_REGISTERS, **OF_GATES}

    def load(params: Mapping[str, Any], weights: Path) -> torch.nn.Module:
        network = load_model(params, weights)
        with torch.no_grad():
            networks[mutation](network)
        return network

    before = export.load_model, export.resample
    if mutation in POSITIONS:
        export.resample = POSITIONS[mutation]
    else:
        export.load_model = load
    try:
        return export.build_graphs(params, weights)
    finally:
        export.load_model, export.resample = before
