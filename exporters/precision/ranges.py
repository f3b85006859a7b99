"""The ranges of activations, gathered while a graph runs: one pass over the pictures, nothing kept.

For `max` the graph itself computes the largest magnitude of every activation, and the sum of all
its magnitudes, so that only single numbers leave it. onnxruntime's ReduceMax passes over what is no
number; a sum does not. For `entropy` a second
pass counts magnitudes in bins, and onnxruntime's own search picks the threshold that loses least
(Kullback-Leibler divergence; Migacz, "8-bit Inference with TensorRT", 2017).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization.calibrate import HistogramCollector

from exporters.graphs.external_data import bring_beside, data_beside
from exporters.graphs.sessions import Session, Tensors
from exporters.graphs.structure import read_graph
from exporters.protocol import StageError

Run = Callable[[str, Mapping[str, NDArray[Any]]], Tensors]

BINS: Final = 1025
LEVELS: Final = 128
# What an entropy pass may fetch from a session at once.
FETCHED_BYTES: Final = 1_000_000_000

_LARGEST: Final = "__largest"
_SUM: Final = "__sum"


class RangeObserver:
    """A graph that tells the ranges of some of its activations whenever it runs.

    Attributes:
        largest: The largest magnitude so far, by activation or other value.
        runs: How often it ran.
    """

    def __init__(
        self,
        path: Path,
        activations: Collection[str],
        folder: Path,
        threads: int,
        provider: str,
        others: Collection[str] = (),
    ) -> None:
        """Load the graph, with two outputs more for each value.

        Args:
            path: The .onnx file; weights beside it stay there.
            activations: The names of the values to observe.
            folder: Where the instrumented graph may be written; its own.
            threads: How many threads onnxruntime may use.
            provider: The execution provider that must be active.
            others: Values to observe that may be infinite, as what a mask leaves out is.
        """
        self.largest: dict[str, float] = dict.fromkeys(sorted({*activations, *others}), 0.0)
        self.runs = 0
        model = read_graph(path)
        self._outputs = [value.name for value in model.graph.output]
        self._finite = {*self._outputs, *activations}
        _add_magnitudes(model, self.largest)
        self._session = _open(model, path, folder, threads, provider)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Run the graph and widen the ranges; return the graph's own outputs.

        Raises:
            StageError: An activation holds NaN or infinite values.
        """
        found = self._session.run(inputs)
        outputs = {name: found[name] for name in self._outputs}
        for name, values in (
            *outputs.items(),
            *((one, found[one + kind]) for one in self.largest for kind in (_SUM, _LARGEST)),
        ):
            infinite = name in self._finite and np.isinf(values).any()
            if infinite or np.isnan(values).any():
                raise StageError(
                    f"The activation {name} holds NaN or infinite values.",
                    "The weights are damaged, or too large for float32.",
                    "Verify the float32 target.",
                )
        for name in self.largest:
            self.largest[name] = max(self.largest[name], float(found[name + _LARGEST]))
        self.runs += 1
        return outputs


class HistogramObserver:
    """A graph whose activations are counted by magnitude, in bins up to the largest of each."""

    def __init__(
        self,
        path: Path,
        largest: Mapping[str, float],
        folder: Path,
        threads: int,
        provider: str,
    ) -> None:
        """Load the graph, with the activations as outputs; arguments as for `RangeObserver`.

        Args:
            largest: The largest magnitude of each activation, from a pass before.
        """
        self._largest = dict(largest)
        self._counts = {name: np.zeros(BINS, dtype=np.int64) for name in largest}
        model = read_graph(path)
        self._outputs = [value.name for value in model.graph.output]
        declared = set(self._outputs)
        self._groups = _group(model, [name for name in largest if name not in declared])
        model.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(name)
            for name in largest
            if name not in declared
        )
        self._session = _open(model, path, folder, threads, provider)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Run the graph, as often as fetching takes, and count; return its own outputs."""
        found: Tensors = {}
        for group in self._groups or [[]]:
            found = self._session.run(inputs, [*self._outputs, *group])
            for name in (*group, *(one for one in self._outputs if one in self._counts)):
                self._count(name, found[name])
        return {name: found[name] for name in self._outputs}

    def thresholds(self) -> dict[str, float]:
        """Return the threshold of each activation beyond which values are clipped."""
        return {name: self._threshold(name) for name in self._largest}

    def _count(self, name: str, values: NDArray[Any]) -> None:
        edge = self._largest[name]
        if edge:
            counted, _ = np.histogram(values, bins=BINS, range=(-edge, edge))
            self._counts[name] += counted

    def _threshold(self, name: str) -> float:
        edge = self._largest[name]
        if not edge:
            return 0.0
        edges = np.linspace(-edge, edge, BINS + 1, dtype=np.float32)
        collector = HistogramCollector("entropy", True, BINS, LEVELS, 100.0, "same")
        ends = np.float32(-edge), np.float32(edge)
        bounds = collector.get_entropy_threshold((self._counts[name], edges, *ends), LEVELS)
        return max(abs(float(bound)) for bound in bounds)


def _add_magnitudes(model: ModelProto, values: Collection[str]) -> None:
    """Add two outputs for each value, those of the last one first.

    onnxruntime begins with what was added last and runs what leads to it. In this order it is done
    with a value as soon as it has it; in any other all values would be in memory at once.
    """
    # A constant may be asked for as well: it is there from the start, as inputs are.
    names = [one.name for one in (*model.graph.initializer, *model.graph.input)]
    names += [name for node in model.graph.node for name in node.output]
    places = {name: place for place, name in enumerate(names)}
    for name in sorted(values, key=lambda one: places[one], reverse=True):
        magnitude = name + "__magnitude"
        model.graph.node.append(onnx.helper.make_node("Abs", [name], [magnitude], name=magnitude))
        for kind, suffix in (("ReduceMax", _LARGEST), ("ReduceSum", _SUM)):
            model.graph.node.append(
                onnx.helper.make_node(
                    kind, [magnitude], [name + suffix], name=name + suffix, keepdims=0
                )
            )
            model.graph.output.append(
                onnx.helper.make_tensor_value_info(name + suffix, onnx.TensorProto.FLOAT, [])
            )


def _open(model: ModelProto, path: Path, folder: Path, threads: int, provider: str) -> Session:
    """Return a session on an instrumented graph, which finds its weights where the original has
    them.
    """
    folder.mkdir()
    bring_beside(data_beside(path), folder)
    instrumented = folder / path.name
    instrumented.write_bytes(model.SerializeToString())
    return Session(instrumented, threads, provider=provider)


def _group(model: ModelProto, names: Sequence[str]) -> list[list[str]]:
    """Return activations in groups that can be fetched at once, by the sizes that are declared."""
    shapes = {value.name: value.type.tensor_type.shape for value in model.graph.value_info}
    groups: list[list[str]] = []
    room = 0
    for name in names:
        dims = [dim.dim_value or 1 for dim in shapes[name].dim] if name in shapes else []
        size = 4 * int(np.prod(dims, dtype=np.int64))
        if not groups or size > room:
            groups.append([])
            room = FETCHED_BYTES
        groups[-1].append(name)
        room -= size
    return groups


def observe(observers: Mapping[str, RangeObserver | HistogramObserver], others: Run) -> Run:
    """Return a `run` for a family's part: observed graphs where there are any, the others
    otherwise.
    """

    def run(graph: str, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        if graph in observers:
            return observers[graph].run(inputs)
        return others(graph, inputs)

    return run
