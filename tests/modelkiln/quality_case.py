"""The documents of a target in reduced precision, as the stages write them."""

import copy
from typing import Any, Final

GATES: Final[list[dict[str, Any]]] = [
    {
        "name": "snr_db",
        "runtime": "cpu",
        "graph": "encoder",
        "tensor": "image_embed",
        "value": 31.25,
        "bound": 20.0,
        "ok": True,
    },
    {
        "name": "snr_db",
        "runtime": "cpu",
        "graph": "encoder",
        "tensor": "high_res_feats_0",
        "value": None,
        "bound": 20.0,
        "ok": True,
    },
    {
        "name": "mask_iou",
        "runtime": "cpu",
        "graph": "end to end",
        "tensor": "coffee.jpg/a box, set 1, mask 2",
        "value": 0.99123,
        "bound": 0.98,
        "ok": True,
    },
]
CHECKS: Final[dict[str, Any]] = {
    "contract": {"name": "image", "version": 1},
    "format": {"name": "onnx-int8"},
    "binding": True,
    "gates": GATES,
    "tensors": [
        {
            "graph": "encoder",
            "tensor": tensor,
            "case": case,
            "photograph": photograph,
            "snr_db": ratio,
        }
        for tensor, case, photograph, ratio in (
            ("image_embed", "coffee.jpg", True, 30.5),
            ("image_embed", "rocket.jpg", True, 34.0),
            ("image_embed", "noise", False, 3.0),
            ("high_res_feats_0", "coffee.jpg", True, None),
        )
    ],
    "masks": [
        {
            "case": "coffee.jpg/a box",
            "mask": "mask 2",
            "iou": 0.99123,
            "coverage": 0.3,
            "counted": True,
        }
    ],
    "quality": {
        "cpu": [
            {
                "graph": "encoder",
                "tensor": "image_embed",
                "cases": 2,
                "snr_db": 31.25,
                "lowest_snr_db": 30.5,
                "cosine": 0.999812,
                "lowest_cosine": 0.999671,
                "relative": 0.0213,
            },
            {
                "graph": "encoder",
                "tensor": "high_res_feats_0",
                "cases": 1,
                "snr_db": None,
                "lowest_snr_db": None,
                "cosine": 1.0,
                "lowest_cosine": 1.0,
                "relative": 0.0,
            },
        ]
    },
    "kernels": {
        "encoder": {
            "planned": 51,
            "integer": 51,
            "names": {"QGemm": 51},
            "all": {"QGemm": 51, "Add": 3},
        }
    },
    "fp32": {
        "output": "encoder/high_res_feats_1",
        "relative": 1.3e-6,
        "bound": 1e-5,
        "lowest_iou": 0.99996,
    },
    "summary": {
        "format": "onnx-int8",
        "mode": "int8",
        "binding": True,
        "missed": [],
        "masks": 180,
        "masks_counted": 170,
        "lowest_iou": 0.99123,
        "scores": {"cases": 45, "max_abs_diff": 0.0059, "mean_abs_diff": 0.0017, "relative": 0.01},
        "quality": {
            "graph": "encoder",
            "tensor": "image_embed",
            "lowest_snr_db": 31.25,
            "lowest_cosine": 0.999671,
        },
        "linears": {"linears": 51, "quantized": 51},
        "bytes": 45_000_000,
        "fp32_bytes": 125_000_000,
    },
}
PLAN: Final[dict[str, Any]] = {
    "mode": "int8",
    "graphs": {
        "encoder": {
            "layers": [{"node": "blocks.0.qkv", "op": "MatMul", "input": "x", "scale": 0.0409}],
            "left_out": [{"node": "patch_embed", "op": "Conv", "reason": "Conv was not asked for"}],
            "float16": {
                "limit": 65504.0,
                "observed": 258,
                "largest": {"tensor": "blocks.2.add", "largest": None},
                "close": [
                    {"tensor": "blocks.2.add", "largest": None, "float16": False},
                    {"tensor": "blocks.1.mlp", "largest": 70123.4, "float16": False},
                    {"tensor": "blocks.1.qkv", "largest": 40000.4, "float16": True},
                ],
                "kept": [
                    {"node": "blocks.1.mlp", "op": "MatMul"},
                    {"node": "blocks.2.add", "op": "Add"},
                    {"node": "blocks.2.sum", "op": "Add"},
                ],
            },
        },
    },
}
BENEFIT: Final[dict[str, Any]] = {
    "bytes": 45_000_000,
    "fp32_bytes": 125_000_000,
    "size": 0.36,
    "speed": {"cpu": 1.523},
    "pays": True,
    "graphs": {
        "encoder": {
            "bytes": 29_000_000,
            "fp32_bytes": 109_000_000,
            "peak_bytes": 670_000_000,
            "fp32_peak_bytes": 750_000_000,
            "seconds": {"cpu": {"fp32": 1.523, "reduced": 1.0, "runs": 5}},
        },
        "decoder": {"bytes": 16_000_000, "fp32_bytes": 16_000_000},
    },
}


def miss(checks: dict[str, Any], *, binding: bool) -> dict[str, Any]:
    """The same with the gate of the masks missed."""
    changed = copy.deepcopy(checks)
    changed["gates"][2] |= {"value": 0.97, "ok": False}
    changed["summary"] |= {"missed": ["the mask IoU"], "lowest_iou": 0.97, "binding": binding}
    changed["binding"] = binding
    return changed
