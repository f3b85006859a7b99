"""Fails where the quantize environment cannot do its work: imports, one small graph, one CUDA.

Run by its own Python after the installation, before anything uses it. What it imports is compiled
to bytecode by that; stages, which write nothing outside of their scratch folder, then find it.
"""

import importlib
import importlib.metadata
import re
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from modelopt.onnx.quantization import quantize
from onnx import helper, numpy_helper
from onnxruntime.capi import build_and_package_info

IMPORTED = (
    "PIL.Image",
    "cupy",
    "modelopt.onnx.quantization.int4",
    "modelopt.onnx.utils",
    "onnx_graphsurgeon",
    "onnxslim",
    "safetensors.numpy",
    "scipy.special",
)
SIZE = 64
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


def cuda_majors() -> dict[str, str]:
    """The major version of CUDA that each package is made for, by package."""
    majors = {
        "torch": str(torch.version.cuda).partition(".")[0],
        "onnxruntime-gpu": str(build_and_package_info.cuda_version).partition(".")[0],
    }
    for one in importlib.metadata.distributions():
        found = re.fullmatch(r"(?:nvidia-.+-cu|cupy-cuda)(\d+)x?", one.name)
        if found:
            majors[one.name] = found[1]
        elif one.name == "cuda-bindings":
            majors[one.name] = one.version.partition(".")[0]
    return majors


def small_graph() -> onnx.ModelProto:
    """Two products of matrices with an activation between."""
    numbers = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(
            (numbers.standard_normal((SIZE, SIZE)) / SIZE**0.5).astype(np.float32), name
        )
        for name in ("first", "second")
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "second"], ["y"]),
    ]
    shape = [16, SIZE]
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in "xy")
    graph = helper.make_graph(nodes, "small", [x], [y], weights)
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def run(model: bytes, x: np.ndarray, provider: str) -> np.ndarray:
    """The output of a graph; ends the program where ONNX Runtime drops the provider."""
    session = onnxruntime.InferenceSession(model, providers=[provider])
    if session.get_providers()[0] != provider:
        raise SystemExit(f"ONNX Runtime does not use {provider}: {session.get_providers()}")
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    majors = cuda_majors()
    if len(set(majors.values())) != 1 or not any(name.startswith("cupy") for name in majors):
        raise SystemExit(f"The packages are made for different versions of CUDA: {majors}")
    if str(torch.backends.cudnn.version())[0] != "9":
        raise SystemExit("ONNX Runtime wants cuDNN 9, and PyTorch brings another one")
    model = small_graph()
    x = np.random.default_rng(1).standard_normal((16, SIZE)).astype(np.float32)
    expected = run(model.SerializeToString(), x, CPU)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "small.onnx"), Path(folder, "small.int8.onnx")
        onnx.save(model, source)
        quantize(
            str(source),
            quantize_mode="int8",
            calibration_data={"x": x},
            calibration_eps=["cpu"],
            op_types_to_quantize=["MatMul"],
            output_path=str(target),
            log_level="ERROR",
        )
        quantized = onnx.load(target)
    kinds = {node.op_type for node in quantized.graph.node}
    if not {"QuantizeLinear", "DequantizeLinear"} <= kinds:
        raise SystemExit(f"ModelOpt has quantized nothing: the graph holds {sorted(kinds)}")
    found = run(quantized.SerializeToString(), x, CPU)
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    if not 0 < error < 0.1:
        raise SystemExit(f"The quantized graph is off by {error} of its size")
    if torch.cuda.is_available():
        onnxruntime.preload_dlls()
        on_gpu = run(model.SerializeToString(), x, CUDA)
        if not np.allclose(on_gpu, expected, rtol=1e-2, atol=1e-2):
            raise SystemExit("The GPU and the processor differ")


main()
