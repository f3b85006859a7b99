"""The ranges of activations, gathered while a graph runs: one pass over the pictures, nothing kept.

For `max` the graph itself computes the largest magnitude of every activation, so that only single
numbers leave it; the network's own operators are fused as in any session. For `entropy` a second
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

_SUFFIX: Final = "__largest"


class RangeObserver:
    """A graph that tells the ranges of some of its activations whenever it runs.

    Attributes:
        largest: The largest magnitude so far, by activation.
        runs: How often it ran.
    """

    def __init__(
        self,
        path: Path,
        activations: Collection[str],
        folder: Path,
        threads: int,
        provider: str,
    ) -> None:
        """Load the graph, with an output more for each activation.

        Args:
            path: The .onnx file; weights beside it stay there.
            activations: The names of the values to observe.
            folder: Where the instrumented graph may be written; its own.
            threads: How many threads onnxruntime may use.
            provider: The execution provider that must be active.
        """
        self.largest: dict[str, float] = dict.fromkeys(sorted(activations), 0.0)
        self.runs = 0
        model = read_graph(path)
        self._outputs = [value.name for value in model.graph.output]
        _add_magnitudes(model, self.largest)
        self._session = _open(model, path, folder, threads, provider)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Run the graph and widen the ranges; return the graph's own outputs.

        Raises:
            StageError: An activation holds NaN or infinite values.
        """
        found = self._session.run(inputs)
        # A maximum passes over what is no number; it comes out of the graph all the same.
        outputs = {name: found[name] for name in self._outputs}
        for name, values in {
            **outputs,
            **{one: found[one + _SUFFIX] for one in self.largest},
        }.items():
            if not np.isfinite(values).all():
                raise StageError(
                    f"The activation {name} holds NaN or infinite values.",
                    "The weights are damaged, or too large for float32.",
                    "Verify the float32 target.",
                )
        for name in self.largest:
            self.largest[name] = max(self.largest[name], float(found[name + _SUFFIX]))
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


def _add_magnitudes(model: ModelProto, activations: Collection[str]) -> None:
    for name in activations:
        model.graph.node.append(
            onnx.helper.make_node("Abs", [name], [name + "__magnitude"], name=name + "__magnitude")
        )
        model.graph.node.append(
            onnx.helper.make_node(
                "ReduceMax",
                [name + "__magnitude"],
                [name + _SUFFIX],
                name=name + _SUFFIX,
                keepdims=0,
            )
        )
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(name + _SUFFIX, onnx.TensorProto.FLOAT, [])
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
