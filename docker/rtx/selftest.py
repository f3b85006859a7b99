"""Fails where the rtx environment cannot do its work: the version, the parser, one small engine.

Run by its own Python after the installation, before anything uses it. What it imports is compiled
to bytecode by that; stages, which write nothing outside of their scratch folder, then find it. It
needs no GPU and no driver: engines are built by the compiler within the library.
"""

import array
import struct

import tensorrt_rtx_bindings as trt

VERSION = "1.7.1.116"
SIZE = 16
# What an engine begins with, and where it says its size and the version that built it.
MAGIC = b"vtrt"
SIZE_AT = 16
VERSION_AT = 24


class Log(trt.ILogger):
    """What goes wrong; the library says why nowhere else."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, text: str) -> None:
        if severity <= trt.ILogger.ERROR:
            self.errors.append(text)


def build() -> bytes:
    """Build a strongly typed engine, for every GPU that the library knows: a product of matrices.

    Raises:
        SystemExit: The library gives none; with what it said.
    """
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    numbers = array.array("f", ((at * 37 % 101 - 50) / 50 for at in range(SIZE * SIZE)))
    weights = trt.Weights(trt.float32, numbers.buffer_info()[0], len(numbers))
    x = network.add_input("x", trt.float32, (1, SIZE))
    w = network.add_constant((SIZE, SIZE), weights).get_output(0)
    no = trt.MatrixOperation.NONE
    product = network.add_matrix_multiply(x, no, w, no).get_output(0)
    y = network.add_activation(product, trt.ActivationType.RELU).get_output(0)
    y.name = "y"
    network.mark_output(y)
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    if plan is None:
        raise SystemExit(f"TensorRT for RTX builds no engine: {'; '.join(log.errors)}")
    return bytes(plan)


def check_parser() -> None:
    """Raise SystemExit where the ONNX parser, a library of its own, is not the one expected."""
    log = Log()
    network = trt.Builder(log).create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.supports_operator("LayerNormalization"):
        raise SystemExit("the ONNX parser does not know LayerNormalization")
    if parser.parse(b"no graph") or parser.num_errors != 1:
        raise SystemExit("the ONNX parser takes what is no graph")


def main() -> None:
    if trt.__version__ != VERSION:
        raise SystemExit(f"TensorRT for RTX {VERSION} expected, {trt.__version__} found")
    check_parser()
    engine = build()
    (size,) = struct.unpack_from("<Q", engine, SIZE_AT)
    version = ".".join(map(str, engine[VERSION_AT : VERSION_AT + 4]))
    if (engine[:4], size, version) != (MAGIC, len(engine), VERSION):
        raise SystemExit(f"an engine of another form was built: {engine[:64].hex()}")
    if build() != engine:
        raise SystemExit("two builds of one engine differ")


main()
