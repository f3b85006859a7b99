"""Graphs in onnxruntime, as the stages run them that serve a user rather than a check."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from exporters.protocol import StageError

Tensors = dict[str, NDArray[Any]]


class Sessions:
    """An onnxruntime session for each graph, on the CPU.

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
        started = time.perf_counter()
        self._sessions = {name: _load(path, threads) for name, path in files.items()}
        self.load_seconds = time.perf_counter() - started
        self.run_seconds: dict[str, list[float]] = {name: [] for name in files}

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Runs a graph: inputs by name to outputs by name.

        Raises:
            StageError: The graph failed, or an output holds an infinity or no number.
        """
        session = self._sessions[graph]
        started = time.perf_counter()
        try:
            values = session.run(None, dict(inputs))
        except Exception as error:  # onnxruntime raises a class of its own for each status
            raise StageError(
                f"The {graph} failed while it ran",
                f"onnxruntime says: {str(error).strip()[:500]}",
                "verify the target; if it verifies, report this with the picture and the prompts",
            ) from error
        self.run_seconds[graph].append(time.perf_counter() - started)
        outputs = {
            one.name: value for one, value in zip(session.get_outputs(), values, strict=True)
        }
        for output, value in outputs.items():
            if not np.isfinite(value).all():
                raise StageError(
                    f"The {graph}'s output {output} holds values that are no numbers",
                    "the weights may be damaged, or too large for this precision",
                    "verify the target",
                )
        return outputs


def _load(path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Inputs of many sizes, as growing memory banks are, would each leave their share of memory
    # behind: gigabytes.
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each status
        raise StageError(
            f"onnxruntime {onnxruntime.__version__} cannot load {path.name}",
            str(error).strip()[:500],
            "verify the target: its files may have been changed",
        ) from error
