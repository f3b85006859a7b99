"""A graph such as users bring."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

HEIGHT, WIDTH, CHANNELS = 32, 48, 24


def make_graph(
    dims: Sequence[int | str] = (1, 3, HEIGHT, WIDTH),
    dtype: int = TensorProto.FLOAT,
    factor: float = 1.0,
    opset: int = 18,
) -> ModelProto:
    """Patches of a picture, and a linear layer on each."""
    numbers = np.random.default_rng(0)
    kernel = numbers.normal(0, 0.1, (CHANNELS, 3, 16, 16)).astype(np.float32)
    weight = numbers.normal(0, 0.2, (CHANNELS, 8)).astype(np.float32) * np.float32(factor)
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Conv", ["image", "kernel"], ["patches"], kernel_shape=[16, 16], strides=[16, 16]),
            node("Reshape", ["patches", "sizes"], ["rows"]),
            node("Transpose", ["rows"], ["tokens"], perm=[0, 2, 1]),
            node("MatMul", ["tokens", "weight"], ["embed"]),
        ],
        "mine",
        [helper.make_tensor_value_info("image", dtype, dims)],
        [helper.make_tensor_value_info("embed", TensorProto.FLOAT, [1, None, 8])],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.array([0, CHANNELS, -1]), "sizes"),
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    model: ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    model.metadata_props.add(key="mine", value="kept")
    return model


def save(folder: Path, model: ModelProto, data: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mine.onnx"
    onnx.save_model(
        model,
        path,
        save_as_external_data=bool(data),
        location=data or None,
        size_threshold=0,
    )
    return path


def picture(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, (1, 3, HEIGHT, WIDTH)).astype(np.float32)
