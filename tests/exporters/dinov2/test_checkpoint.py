"""Checkpoints have Meta's names and shapes, not timm's."""

from exporters.dinov2.ingest import build_network
from tests.exporters.dinov2.models import SETTINGS


def _shapes(model: str) -> dict[str, tuple[int, ...]]:
    network = build_network(SETTINGS[model])
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def test_tensors_have_meta_s_names_and_shapes() -> None:
    shapes = _shapes("dinov2_vitg14_reg4")
    outside = {name: shape for name, shape in shapes.items() if not name.startswith("blocks.")}
    assert outside == {
        "cls_token": (1, 1, 1536),
        "pos_embed": (1, 1370, 1536),
        "mask_token": (1, 1536),
        "register_tokens": (1, 4, 1536),
        "patch_embed.proj.weight": (1536, 3, 14, 14),
        "patch_embed.proj.bias": (1536,),
        "norm.weight": (1536,),
        "norm.bias": (1536,),
    }
    block = {name: shape for name, shape in shapes.items() if name.startswith("blocks.39.")}
    assert {name.removeprefix("blocks.39."): shape for name, shape in block.items()} == {
        "norm1.weight": (1536,),
        "norm1.bias": (1536,),
        "attn.qkv.weight": (4608, 1536),
        "attn.qkv.bias": (4608,),
        "attn.proj.weight": (1536, 1536),
        "attn.proj.bias": (1536,),
        "ls1.gamma": (1536,),
        "norm2.weight": (1536,),
        "norm2.bias": (1536,),
        "mlp.w12.weight": (8192, 1536),
        "mlp.w12.bias": (8192,),
        "mlp.w3.weight": (1536, 4096),
        "mlp.w3.bias": (1536,),
        "ls2.gamma": (1536,),
    }
    assert _shapes("dinov2_vits14")["blocks.11.mlp.fc1.weight"] == (1536, 384)
    assert "register_tokens" not in _shapes("dinov2_vitg14")
