"""A small network that goes where float16 does not, on the signature of `small_nets`."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.quantize.small_nets import SIDE, TOKENS, WIDTH

# What reads or writes a value that passes 65504, where `loud` is large enough.
OVERFLOWING: Final = ("louder", "loudest", "moved", "back")


def make_loud(tall: float = 1.0, loud: float = 1.0) -> ModelProto:
    """Tokens that are raised `tall` times, then `loud` times, and brought back each time.

    `high` is the first peak. `louder` is the second, which a bias and a Reshape carry on to `back`,
    a linear layer.
    """
    numbers = np.random.default_rng(5)
    weights: list[TensorProto] = []

    def constant(name: str, values: Any) -> str:
        weights.append(numpy_helper.from_array(np.asarray(values, dtype=np.float32), name))
        return name

    def integers(name: str, *values: int) -> str:
        weights.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
        return name

    def square(scale: float) -> Any:
        return numbers.standard_normal((WIDTH, WIDTH)) * scale * WIDTH**-0.5

    node = helper.make_node
    nodes = [
        node("Conv", ["image", constant("patch.w", numbers.normal(0, 0.15, (WIDTH, 3, 4, 4)))],
             ["patches"], strides=[4, 4], kernel_shape=[4, 4]),
        node("Reshape", ["patches", integers("flat", 1, WIDTH, TOKENS)], ["rows"]),
        node("Transpose", ["rows"], ["embedded"], perm=[0, 2, 1]),
        node("Mul", ["embedded", constant("up", tall)], ["high"]),
        node("Mul", ["high", constant("down", 1 / tall)], ["low"]),
        node("MatMul", ["low", constant("loud.w", square(loud))], ["louder"]),
        node("Add", ["louder", constant("loud.b", numbers.normal(0, loud / 10, WIDTH))],
             ["loudest"]),
        node("Reshape", ["loudest", integers("same", 1, TOKENS, WIDTH)], ["moved"]),
        node("MatMul", ["moved", constant("back.w", square(1 / loud))], ["back"]),
        node("MatMul", ["back", constant("head.w", square(1.0))], ["tokens"]),
    ]  # fmt: skip
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    tokens = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [1, TOKENS, WIDTH])
    graph = helper.make_graph(nodes, "encoder", [image], [tokens], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def write_loud(folder: Path, tall: float = 1.0, loud: float = 1.0) -> Path:
    """`make_loud` as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "encoder.onnx"
    onnx.save(make_loud(tall, loud), path)
    return path
