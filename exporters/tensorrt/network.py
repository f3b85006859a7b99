"""An ONNX file as TensorRT's parser understands it: names, types, dims, and what computes in what
type."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporters.tensorrt.log import Log, clean
from exporters.tensorrt.refusals import explain

DTYPES: Final[Mapping[str, str]] = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
    "FP8": "float8e4m3fn",
    "INT4": "int4",
    "FP4": "float4e2m1",
    "E8M0": "float8e8m0",
}


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output; a dim that is open is -1."""

    name: str
    dtype: str
    dims: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one layer puts out: the layer's name (that of its ONNX node), its kind, its type."""

    name: str
    kind: str
    dtype: str


class Network:
    """A parsed ONNX file, with all that has to live as long as it does.

    Attributes:
        builder: `trt.Builder`.
        definition: `trt.INetworkDefinition`, strongly typed.
        log: What TensorRT said.
    """

    def __init__(self, trt: Any, path: Path, shown: str) -> None:
        """Parse a file; weights that lie beside it are found there.

        Args:
            trt: The bindings.
            path: The .onnx file.
            shown: What errors call it.

        Raises:
            StageError: The parser refuses it.
        """
        self.trt = trt
        self.log = Log(trt)
        self.builder = trt.Builder(self.log.logger)
        typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        self.definition = self.builder.create_network(typed)
        self._parser = trt.OnnxParser(self.definition, self.log.logger)
        if not self._parser.parse_from_file(str(path)):
            said = list(_parser_errors(self._parser)) or self.log.said()
            raise explain(f"TensorRT's parser does not take the graph {shown}.", said)

    @property
    def inputs(self) -> list[Tensor]:
        """Its inputs, in order."""
        one = self.definition
        return [_tensor(one.get_input(index)) for index in range(one.num_inputs)]

    @property
    def outputs(self) -> list[Tensor]:
        """Its outputs, in order."""
        one = self.definition
        return [_tensor(one.get_output(index)) for index in range(one.num_outputs)]

    @property
    def layers(self) -> Iterator[Layer]:
        """What its layers put out, one by one."""
        for index in range(self.definition.num_layers):
            layer = self.definition.get_layer(index)
            for number in range(layer.num_outputs):
                yield Layer(
                    name=layer.name,
                    kind=layer.type.name,
                    dtype=DTYPES[layer.get_output(number).dtype.name],
                )

    def fix(self, name: str, dims: Sequence[int]) -> None:
        """Give an input these dims; -1 leaves one open."""
        for index in range(self.definition.num_inputs):
            value = self.definition.get_input(index)
            if value.name == name:
                value.shape = tuple(dims)


def count_types(layers: Iterable[Layer]) -> dict[str, dict[str, int]]:
    """Return how many outputs of layers have which type, by kind of layer."""
    counts: dict[str, Counter[str]] = {}
    for layer in layers:
        counts.setdefault(layer.kind, Counter())[layer.dtype] += 1
    return {kind: dict(sorted(one.items())) for kind, one in sorted(counts.items())}


def _tensor(value: Any) -> Tensor:
    return Tensor(name=value.name, dtype=DTYPES[value.dtype.name], dims=tuple(value.shape))


def _parser_errors(parser: Any) -> Iterator[str]:
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = " ".join(filter(None, (error.node_operator(), error.node_name())))
        place = f" at {node}" if node else ""
        yield f"{error.code().name}{place}: {clean(error.desc())}"
