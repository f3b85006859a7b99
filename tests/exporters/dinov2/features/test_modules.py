"""DINOv2's module in PyTorch beside timm's own code, at the size that both have."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from exporters.dinov2.checkpoint import Checkpoint
from exporters.dinov2.features import modules
from exporters.dinov2.features.modules import (
    MOST_IN_TURN,
    Attention,
    Features,
    check_configuration,
    first_tokens,
)
from exporters.dinov2.model import build_model, fill
from exporters.weights.random import draw_weights
from tests.exporters.dinov2.models import SHRUNKEN

SMALL, REGISTERS, GATED = "dinov2_vits14", "dinov2_vits14_reg4", "dinov2_vitg14_reg4"
NAMES = ("cls_token", "register_tokens", "patch_tokens")


def make_network(model: str, *, native: int = 70, heads: int = 3) -> Any:
    """timm's network, shrunken, with random weights."""
    settings = dict(SHRUNKEN[model])
    overrides = {**settings["overrides"], "num_heads": heads}
    settings |= {"native": native, "overrides": overrides}
    drawn = draw_weights(Checkpoint(settings), 0)
    network: Any = build_model(settings)
    fill(network, {name: torch.from_numpy(value) for name, value in drawn.items()})
    return network


def make_features(network: Any, *outputs: str, attention: str = "split") -> Features:
    positions = network.pos_embed[0, -int(network.patch_embed.num_patches) :]
    return Features(network, positions, outputs, most_in_turn=MOST_IN_TURN[attention]).eval()


def make_pictures(network: Any, count: int = 2) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, *network.patch_embed.img_size, generator=random)


# 25 and 16 patches: with and without registers, an even and an odd number of tokens each.
@pytest.mark.parametrize("heads", [3, 16])
@pytest.mark.parametrize("native", [70, 56])
@pytest.mark.parametrize("model", [SMALL, REGISTERS, GATED])
def test_it_computes_what_timm_does(model: str, native: int, heads: int) -> None:
    network = make_network(model, native=native, heads=heads)
    outputs = [name for name in NAMES if network.num_reg_tokens or name != "register_tokens"]
    pictures = make_pictures(network)
    with torch.inference_mode():
        wanted = network.forward_features(pictures)
        cls, *others = make_features(network, *outputs)(pictures)
    found = torch.cat([cls[:, None], *others], dim=1)
    assert found.shape == wanted.shape
    assert wanted.std() > 0.1
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 5e-6


def test_outputs_are_those_that_are_asked_for() -> None:
    network = make_network(REGISTERS)
    pictures = make_pictures(network)
    with torch.inference_mode():
        cls, registers, patches = make_features(network, *NAMES)(pictures)
        (alone,) = make_features(network, "patch_tokens")(pictures)
        swapped = make_features(network, "patch_tokens", "cls_token")(pictures)
    assert [tuple(one.shape) for one in (cls, registers, patches)] == [
        (2, 48),
        (2, 4, 48),
        (2, 25, 48),
    ]
    assert torch.equal(alone, patches)
    assert torch.equal(swapped[0], patches) and torch.equal(swapped[1], cls)


def test_a_model_without_registers_has_no_such_tokens() -> None:
    network = make_network(SMALL)
    with pytest.raises(KeyError, match="register_tokens"):
        make_features(network, *NAMES)(make_pictures(network))


def test_only_a_class_token_without_registers_beside_it_has_a_place() -> None:
    alone, among = make_network(SMALL), make_network(REGISTERS)
    assert torch.equal(first_tokens(alone), alone.cls_token[0] + alone.pos_embed[0, :1])
    assert torch.equal(first_tokens(among), torch.cat([among.cls_token[0], among.reg_token[0]]))


def test_the_weights_are_the_network_s_own() -> None:
    network = make_network(GATED)
    held = {one.data_ptr() for one in make_features(network, *NAMES).parameters()}
    kept = {name for name, one in network.named_parameters() if one.data_ptr() not in held}
    assert kept == {"cls_token", "reg_token", "pos_embed"}


@pytest.mark.parametrize("count", [9, 10])
def test_heads_in_turn_and_at_once_are_the_same(count: int) -> None:
    heads, channels = 4, 8
    upstream: Any = nn.Module()
    upstream.num_heads, upstream.scale = heads, 0.25
    upstream.qkv = upstream.proj = nn.Identity()
    attention = Attention(upstream, count, heads)
    mapped = torch.randn(
        3 * count, 3 * heads * channels, generator=torch.Generator().manual_seed(0)
    )
    one, other = attention.in_turn(mapped), attention.at_once(mapped)
    assert one.numel() == other.numel()
    torch.testing.assert_close(one.reshape(-1), other.reshape(-1))


@pytest.mark.parametrize(
    ("kind", "heads", "products"), [("split", 12, 12), ("split", 16, 1), ("whole", 12, 1)]
)
def test_many_heads_come_at_once_and_all_where_nothing_is_split(
    kind: str, heads: int, products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Tensor] = []

    def attend(query: Tensor, _key: Tensor, _value: Tensor) -> Tensor:
        calls.append(query)
        return query

    monkeypatch.setattr(modules, "attend", attend)
    network = make_network(SMALL, heads=heads)
    attention = make_features(network, *NAMES, attention=kind).blocks[0].attention
    attention(torch.zeros(attention.count, 48))
    assert len(calls) == products


def _norm_queries(vit: Any) -> None:
    vit.blocks[1].attn.q_norm = nn.LayerNorm(16)


def _leave_out_a_scale(vit: Any) -> None:
    vit.blocks[2].ls2 = nn.Identity()


def _norm_first(vit: Any) -> None:
    vit.norm_pre = nn.LayerNorm(48)


def _place_registers(vit: Any) -> None:
    vit.no_embed_class = False


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_norm_queries, r"blocks\.1\.attn\.q_norm"),
        (_leave_out_a_scale, r"blocks\.2\.ls2"),
        (_norm_first, "norm_pre"),
        (_place_registers, "pos_embed"),
    ],
)
def test_a_network_of_another_kind_is_refused(change: Any, named: str) -> None:
    network = make_network(REGISTERS)
    check_configuration(network)
    change(network)
    with pytest.raises(ValueError, match=f"not a network of DINOv2's kind: {named}$"):
        make_features(network, *NAMES)
