"""Small networks as ONNX graphs, with every kind of layer that quantization meets."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

SIDE: Final = 32
WIDTH: Final = 32
TOKENS: Final = (SIDE // 4) ** 2

GOLDEN: Final[dict[str, Any]] = {
    "name": "encoder",
    "file": "encoder.onnx",
    "forbidden_ops": [],
    "inputs": [{"name": "image", "dtype": "float32", "dims": [1, 3, SIDE, SIDE]}],
    "outputs": [{"name": "tokens", "dtype": "float32", "dims": [1, TOKENS, WIDTH]}],
}
# What is quantized in `make_encoder`: outputs of products with a constant weight.
LINEARS: Final = ("qkv", "proj", "up", "down", "head")


def make_encoder(seed: int = 0, opset: int = 18) -> ModelProto:
    """A patch embedding, a block of attention and an MLP, and a head.

    Five linear layers: four MatMul with an Add behind, one of them with another layer on the same
    activation, and one Gemm. Beside them a product of two constants, two products of activations,
    and two convolutions, of which one has too few channels.
    """
    numbers = np.random.default_rng(seed)
    weights: list[TensorProto] = []

    def constant(name: str, *dims: int, scale: float | None = None) -> str:
        values = numbers.standard_normal(dims).astype(np.float32)
        values *= np.float32(scale if scale is not None else dims[0] ** -0.5)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def integers(name: str, *values: int) -> str:
        weights.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
        return name

    node = helper.make_node
    wide = 4 * WIDTH
    nodes = [
        node("Conv", ["image", constant("patch.w", WIDTH, 3, 4, 4, scale=0.15)], ["patches"],
             strides=[4, 4], kernel_shape=[4, 4]),
        node("Conv", ["patches", constant("mix.w", WIDTH, WIDTH, 1, 1, scale=0.2),
                      constant("mix.b", WIDTH, scale=0.1)], ["mixed"], kernel_shape=[1, 1]),
        node("Reshape", ["mixed", integers("flat", 1, WIDTH, TOKENS)], ["rows"]),
        node("Transpose", ["rows"], ["embedded"], perm=[0, 2, 1]),
        # Positions, as a product of constants: no layer.
        node("MatMul", [constant("places", TOKENS, 8), constant("waves", 8, WIDTH)], ["table"]),
        node("Add", ["embedded", "table"], ["placed"]),
        node("LayerNormalization", ["placed", constant("norm.w", WIDTH, scale=1.0),
                                    constant("norm.b", WIDTH, scale=0.1)], ["normed"], axis=-1),
        node("MatMul", ["normed", constant("qkv.w", WIDTH, 3 * WIDTH)], ["qkv"]),
        node("Add", [constant("qkv.b", 3 * WIDTH, scale=0.1), "qkv"], ["qkv_sum"]),
        node("Split", ["qkv_sum"], ["q", "k", "v"], axis=2, num_outputs=3),
        node("Transpose", ["k"], ["k_turned"], perm=[0, 2, 1]),
        node("MatMul", ["q", "k_turned"], ["logits"]),
        node("Softmax", ["logits"], ["shares"], axis=-1),
        node("MatMul", ["shares", "v"], ["attended"]),
        node("MatMul", ["attended", constant("proj.w", WIDTH, WIDTH)], ["proj"]),
        node("Add", ["proj", constant("proj.b", WIDTH, scale=0.1)], ["proj_sum"]),
        node("Add", ["placed", "proj_sum"], ["residual"]),
        node("MatMul", ["residual", constant("up.w", WIDTH, wide)], ["up"]),
        node("Add", ["up", constant("up.b", wide, scale=0.1)], ["up_sum"]),
        node("Relu", ["up_sum"], ["active"]),
        node("MatMul", ["active", constant("down.w", wide, WIDTH)], ["down"]),
        node("Add", ["down", constant("down.b", WIDTH, scale=0.1)], ["down_sum"]),
        node("Reshape", ["down_sum", integers("two", TOKENS, WIDTH)], ["flat_rows"]),
        node("Gemm", ["flat_rows", constant("head.w", WIDTH, WIDTH, scale=0.2),
                      constant("head.b", WIDTH, scale=0.1)], ["head"], transB=1),
        node("Reshape", ["head", integers("three", 1, TOKENS, WIDTH)], ["tokens"]),
    ]  # fmt: skip
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    tokens = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [1, TOKENS, WIDTH])
    graph = helper.make_graph(nodes, "encoder", [image], [tokens], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def write_encoder(folder: Path, seed: int = 0, opset: int = 18) -> Path:
    """`make_encoder` as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "encoder.onnx"
    onnx.save(make_encoder(seed, opset), path)
    return path


def write_pictures(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Pictures of coloured noise, each brighter than the one before."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(seed)
    paths = []
    for index in range(count):
        top = 64 + 191 * (index + 1) // count
        pixels = numbers.integers(0, top, (SIDE, SIDE, 3), dtype=np.uint8)
        paths.append(folder / f"{index:03}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def make_picture(seed: int) -> NDArray[np.float32]:
    """float32 [1, 3, SIDE, SIDE], of about the range of a normalized photograph."""
    return np.random.default_rng(seed).uniform(-2, 2.5, (1, 3, SIDE, SIDE)).astype(np.float32)
