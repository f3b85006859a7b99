"""Small ONNX graphs in every precision, and those that TensorRT refuses."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

WIDTH: Final = 32
FLOAT, HALF, INT8, FP8 = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.INT8,
    TensorProto.FLOAT8E4M3FN,
)

# As a contract has it: rows are open.
GOLDEN: Final[Mapping[str, Any]] = {
    "name": "small",
    "file": "small.onnx",
    "forbidden_ops": [],
    "inputs": [{"name": "x", "dtype": "float32", "dims": ["rows", WIDTH]}],
    "outputs": [{"name": "y", "dtype": "float32", "dims": ["rows", WIDTH]}],
}


def weights(name: str, dtype: Any = np.float32) -> TensorProto:
    numbers = np.random.default_rng(len(name))
    array = (numbers.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(dtype)
    return numpy_helper.from_array(array, name)


def constant(name: str, array: NDArray[Any]) -> TensorProto:
    return numpy_helper.from_array(array, name)


def write(
    path: Path,
    nodes: list[NodeProto],
    initializers: list[TensorProto],
    *,
    opset: int = 19,
    domains: tuple[str, ...] = (),
    dims: Sequence[str | int | None] = ("rows", WIDTH),
) -> Path:
    shape = list(dims)
    x, y = (helper.make_tensor_value_info(one, FLOAT, shape) for one in "xy")
    graph = helper.make_graph(nodes, "small", [x], [y], initializers)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(one, 1) for one in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def write_fp32(path: Path) -> Path:
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], name="/first/MatMul"),
        helper.make_node("Relu", ["a"], ["b"], name="/relu"),
        helper.make_node("MatMul", ["b", "second"], ["y"], name="/second/MatMul"),
    ]
    return write(path, nodes, [weights("first"), weights("second")])


def write_fp16(path: Path, *, kept: bool = False) -> Path:
    """Two products in float16; with `kept` the second in float32."""
    nodes = [
        helper.make_node("Cast", ["x"], ["xh"], to=HALF),
        helper.make_node("MatMul", ["xh", "first"], ["ah"], name="/first/MatMul"),
        helper.make_node("Relu", ["ah"], ["bh"], name="/relu"),
    ]
    if kept:
        nodes += [
            helper.make_node("Cast", ["bh"], ["b"], to=FLOAT),
            helper.make_node("MatMul", ["b", "second"], ["y"], name="/second/MatMul"),
        ]
    else:
        nodes += [
            helper.make_node("MatMul", ["bh", "second"], ["yh"], name="/second/MatMul"),
            helper.make_node("Cast", ["yh"], ["y"], to=FLOAT),
        ]
    second = weights("second", np.float32 if kept else np.float16)
    return write(path, nodes, [weights("first", np.float16), second])


def write_quantized(path: Path, kind: int = INT8, *, half: bool = True) -> Path:
    """A product whose activation and weights are quantized, explicitly and symmetrically."""
    scale = np.float16(0.05) if half else np.float32(0.05)
    real = HALF if half else FLOAT
    zero = helper.make_tensor("zero", kind, [], [0])
    numbers = np.random.default_rng(0).integers(-100, 100, WIDTH * WIDTH)
    quantized = helper.make_tensor("weight", kind, [WIDTH, WIDTH], numbers.tolist())
    if kind == FP8:
        floats = numbers.astype(np.float32) / 32
        quantized = helper.make_tensor("weight", kind, [WIDTH, WIDTH], floats.tolist())
    nodes = [
        helper.make_node("Cast", ["x"], ["xr"], to=real),
        helper.make_node("QuantizeLinear", ["xr", "scale", "zero"], ["q"], name="/q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"], name="/dq"),
        helper.make_node("DequantizeLinear", ["weight", "scale", "zero"], ["w"], name="/w"),
        helper.make_node("MatMul", ["dq", "w"], ["yr"], name="/MatMul"),
        helper.make_node("Cast", ["yr"], ["y"], to=FLOAT),
    ]
    return write(path, nodes, [constant("scale", np.asarray(scale)), zero, quantized], opset=21)


def write_weakly_typed(path: Path) -> Path:
    nodes = [
        helper.make_node("Cast", ["x"], ["xh"], to=HALF),
        helper.make_node("MatMul", ["x", "first"], ["a"], name="/MatMul"),
        helper.make_node("Add", ["a", "xh"], ["y"], name="/Add"),
    ]
    return write(path, nodes, [weights("first")])


def write_int32_bias(path: Path) -> Path:
    """ONNX Runtime's layout: a bias of int32 behind DequantizeLinear."""
    bias = np.ones(WIDTH, np.int32)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], name="/MatMul"),
        helper.make_node("DequantizeLinear", ["bias", "scale"], ["b"], name="/bias"),
        helper.make_node("Add", ["a", "b"], ["y"], name="/Add"),
    ]
    scale = constant("scale", np.asarray(np.float32(0.1)))
    return write(path, nodes, [weights("first"), scale, constant("bias", bias)])


def write_asymmetric(path: Path) -> Path:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="/q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"], name="/dq"),
        helper.make_node("MatMul", ["dq", "first"], ["y"], name="/MatMul"),
    ]
    zero = constant("zero", np.asarray(np.uint8(128)))
    scale = constant("scale", np.asarray(np.float32(0.1)))
    return write(path, nodes, [weights("first"), scale, zero])


def write_dynamic_int8(path: Path) -> Path:
    numbers = np.random.default_rng(0).integers(-100, 100, (WIDTH, WIDTH)).astype(np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="/dynamic"),
        helper.make_node("MatMulInteger", ["q", "weight", "z"], ["i"], name="/MatMulInteger"),
        helper.make_node("Cast", ["i"], ["f"], to=FLOAT),
        helper.make_node("Mul", ["f", "s"], ["y"], name="/Mul"),
    ]
    return write(path, nodes, [constant("weight", numbers)])


def write_other_domain(path: Path) -> Path:
    nodes = [helper.make_node("Strange", ["x"], ["y"], name="/strange", domain="com.example")]
    return write(path, nodes, [], domains=("com.example",))


def write_no_onnx(path: Path) -> Path:
    path.write_bytes(b"\xff" * 100)
    return path


def write_mixed(path: Path, kind: str) -> Path:
    """A Concat or Where of a float16 tensor and a float32 one."""
    nodes = [helper.make_node("Cast", ["x"], ["xh"], to=HALF)]
    if kind == "Where":
        nodes.append(helper.make_node("Cast", ["x"], ["true"], to=TensorProto.BOOL))
        nodes.append(helper.make_node(kind, ["true", "xh", "x"], ["y"], name="/mixed"))
    else:
        nodes.append(helper.make_node(kind, ["xh", "x"], ["y"], name="/mixed", axis=0))
    return write(path, nodes, [])


def write_integer_convolution(path: Path) -> Path:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="/q"),
        helper.make_node("Reshape", ["q", "shape"], ["r"], name="/reshape"),
        helper.make_node("ConvInteger", ["r", "weight"], ["i"], name="/ConvInteger"),
        helper.make_node("Cast", ["i"], ["y"], to=FLOAT),
    ]
    scale, zero = np.asarray(np.float32(0.1)), np.asarray(np.int8(0))
    arrays: dict[str, NDArray[Any]] = {"scale": scale, "zero": zero}
    arrays["shape"] = np.asarray([1, 1, -1, WIDTH])
    arrays["weight"] = np.ones((1, 1, 1, 1), np.int8)
    return write(path, nodes, [constant(name, array) for name, array in arrays.items()])


# What TensorRT's parser refuses, with its own message but for the place in its sources, and a word
# of ours.
REFUSED: Final[Mapping[str, tuple[Callable[[Path], Path], str, str]]] = {
    "weak types": (
        write_weakly_typed,
        "INVALID_NODE at Add /Add: Invalid Node - /Add ITensor::getDimensions: Error Code 4: API "
        "Usage Error (/Add: ElementWiseOperation SUM must have same input types. But they are of "
        "types Float and Half.",
        "weak typing",
    ),
    "weak types, Concat": (
        lambda path: write_mixed(path, "Concat"),
        "INVALID_NODE at Concat /mixed: Invalid Node - /mixed ITensor::getDimensions: Error Code "
        "4: API Usage Error (/mixed: IConcatenationLayer `inputs` must all be of the same type. "
        "inputs[1] is of type Float but inputs[0] is of type Half.",
        "weak typing",
    ),
    "weak types, Where": (
        lambda path: write_mixed(path, "Where"),
        "INVALID_NODE at Where /mixed: Invalid Node - /mixed ITensor::getDimensions: Error Code 4: "
        "API Usage Error (/mixed: ISelectLayer must have `thenInput` and `elseInput` of same types "
        "but has Half and Float.",
        "weak typing",
    ),
    "int32 biases": (
        write_int32_bias,
        "INVALID_NODE at DequantizeLinear /bias: Invalid Node - /bias ITensor::getDimensions: "
        "Error Code 4: API Usage Error (/bias: input has type Int32 but must have type FP8, FP4, "
        "Int4, Int8, or UInt8.",
        "--layout explicit",
    ),
    "asymmetric": (
        write_asymmetric,
        "INVALID_NODE at QuantizeLinear /q: Assertion failed: shiftIsAllZeros(zeroPoint): Non-zero "
        "zero point is not supported.",
        "--layout explicit",
    ),
    "dynamic int8": (
        write_dynamic_int8,
        "UNSUPPORTED_NODE at DynamicQuantizeLinear /dynamic: false; UNSUPPORTED_NODE at "
        "MatMulInteger /MatMulInteger: false",
        "calibrated scales",
    ),
    "integer convolution": (
        write_integer_convolution,
        "UNSUPPORTED_NODE at ConvInteger /ConvInteger: false",
        "calibrated scales",
    ),
    "another domain": (
        write_other_domain,
        'INVALID_NODE at Strange /strange: creator && "Plugin not found, are the plugin name, '
        'version, and namespace correct?"',
        "another domain",
    ),
    "no ONNX": (
        write_no_onnx,
        "MODEL_DESERIALIZE_FAILED: Assertion failed: model->ParseFromCodedStream(&codedInput): "
        "Failed to parse the ONNX model.",
        "no ONNX model",
    ),
}
