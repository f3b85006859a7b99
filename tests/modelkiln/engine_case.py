"""Engines as their check describes them, for tests of what is said of them."""

from typing import Any

SUMMARY: Any = {
    "status": "built",
    "says": "built, not run: no GPU has computed anything with these engines",
    "tensorrt": {"flavour": "rtx", "title": "TensorRT for RTX", "version": "1.7.1.116"},
    "gpus": ["sm86", "sm120"],
    "precision": "fp16",
    "activation_memory": 753_000_000,
    "onnx": {"target": "tiny/tracker/onnx-fp16", "summary": {"worst": {}, "masks": 0}},
}
BUILT: Any = {
    **SUMMARY,
    "tf32": False,
    "verbosity": "detailed",
    "ran_on": None,
    "graphs": {
        "encoder": {
            "file": "encoder.engine",
            "onnx": [{"file": "encoder.onnx", "sha256": "ab" * 32}],
            "inputs": [{"name": "image", "dtype": "float32", "dims": [1, 3, 8, 8]}],
            "outputs": [{"name": "features", "dtype": "float32", "dims": [1, 4]}],
            "layers": 100,
            "types": {
                "MATRIX_MULTIPLY": {"float16": 5, "float32": 1},
                "CONVOLUTION": {"float16": 2},
                "CAST": {"int64": 9},
            },
            "activation_memory": 753_000_000,
            "weights_memory": 54_000_000,
            "same_bytes": True,
        },
        "decoder": {
            "file": "decoder.engine",
            "onnx": [{"file": "decoder.onnx", "sha256": "cd" * 32}],
            "inputs": [
                {
                    "name": "points",
                    "dtype": "float32",
                    "dims": [-1, 2],
                    "min": [1, 2],
                    "opt": [2, 2],
                    "max": [8, 2],
                }
            ],
            "outputs": [{"name": "masks", "dtype": "float32", "dims": [-1, 4]}],
            "layers": 10,
            "types": {"MATRIX_MULTIPLY": {"float16": 3}},
            "activation_memory": 1_000_000,
            "weights_memory": 2_000_000,
            "same_bytes": False,
        },
    },
}
SIZES = {"encoder.engine": 67_800_000, "decoder.engine": 17_500_000, "built.json": 10}
