"""Graphs in onnxruntime, on the CPU with a fixed number of threads."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from exporters.protocol import StageError

Tensors = dict[str, NDArray[Any]]

ERRORS_ALONE: Final = 3

_WARNINGS: Final = 2


class RuntimeFailure(Exception):
    """What onnxruntime says when it cannot load or run a graph; each status has its own class."""


class Session:
    """One graph, loaded with the data file beside it if it has one.

    Attributes:
        load_seconds: How long loading took.
        run_seconds: How long each run took.
    """

    def __init__(self, path: Path, threads: int, log_level: int = _WARNINGS) -> None:
        """Loads a graph.

        Args:
            path: The .onnx file.
            threads: How many threads onnxruntime may use.
            log_level: What onnxruntime writes to the log; 2 is warnings and worse.

        Raises:
            RuntimeFailure: onnxruntime cannot create a session.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = log_level
        # Inputs of many sizes, as growing memory banks are, would each leave their share of
        # memory behind: gigabytes.
        options.enable_cpu_mem_arena = False
        self.run_seconds: list[float] = []
        started = time.perf_counter()
        try:
            self._session: Any = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise RuntimeFailure(str(error).strip()) from error
        self.load_seconds = time.perf_counter() - started

    @property
    def inputs(self) -> list[str]:
        """The names of the inputs that the graph takes."""
        return [value.name for value in self._session.get_inputs()]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Runs the graph: inputs by name to outputs by name.

        Raises:
            RuntimeFailure: It failed.
        """
        started = time.perf_counter()
        try:
            values = self._session.run(None, dict(inputs))
        except Exception as error:
            raise RuntimeFailure(str(error).strip()) from error
        self.run_seconds.append(time.perf_counter() - started)
        names = [value.name for value in self._session.get_outputs()]
        return dict(zip(names, values, strict=True))


class Sessions:
    """A session for each graph, for stages that serve a user rather than a check.

    Attributes:
        load_seconds: How long loading all of them took.
        run_seconds: How long each run of each graph took.
    """

    def __init__(self, files: Mapping[str, Path], threads: int) -> None:
        """Loads graphs.

        Args:
            files: The .onnx files by the graphs' names.
            threads: How many threads onnxruntime may use.

        Raises:
            StageError: onnxruntime cannot create a session.
        """
        self._sessions = {name: _load(path, threads) for name, path in files.items()}
        self.load_seconds = sum(one.load_seconds for one in self._sessions.values())
        self.run_seconds = {name: one.run_seconds for name, one in self._sessions.items()}

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Runs a graph: inputs by name to outputs by name.

        Raises:
            StageError: The graph failed, or an output holds an infinity or no number.
        """
        try:
            outputs = self._sessions[graph].run(inputs)
        except RuntimeFailure as failure:
            raise StageError(
                f"The {graph} failed while it ran",
                f"onnxruntime says: {str(failure)[:500]}",
                "verify the target; if it verifies, report this with the picture and the prompts",
            ) from failure
        for output, value in outputs.items():
            if not np.isfinite(value).all():
                raise StageError(
                    f"The {graph}'s output {output} holds values that are no numbers",
                    "the weights may be damaged, or too large for this precision",
                    "verify the target",
                )
        return outputs


def _load(path: Path, threads: int) -> Session:
    try:
        return Session(path, threads)
    except RuntimeFailure as failure:
        raise StageError(
            f"onnxruntime {onnxruntime.__version__} cannot load {path.name}",
            str(failure)[:500],
            "verify the target: its files may have been changed",
        ) from failure
