"""The graphs under check in onnxruntime; one that it cannot load or run is not verified."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.checks.reference import Arrays
from exporters.checks.verdict import not_verified
from exporters.graphs.sessions import CPU, DEFAULTS, ERRORS_ALONE, RuntimeFailure, Session


class Runtime:
    """A session for each graph; what fails in one is a failed verification.

    Attributes:
        samples: Inputs of one run of each graph: the largest of one picture or object.
        strange: Outputs that held a value which is no number, in words.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        threads: int,
        config: Mapping[str, str] = DEFAULTS,
        provider: str = CPU,
    ) -> None:
        self.sessions: dict[str, Session] = {}
        self.samples: dict[str, Arrays] = {}
        self.strange: list[str] = []
        for name, path in files.items():
            try:
                self.sessions[name] = Session(path, threads, ERRORS_ALONE, config, provider)
            except RuntimeFailure as failure:
                raise not_verified(
                    f"ONNX Runtime cannot load the graph {name}.", _shorten(failure)
                ) from failure

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run a graph on the inputs that it knows; return its outputs by name."""
        session = self.sessions[graph]
        feeds = {name: inputs[name] for name in session.inputs}
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in feeds.items())
        try:
            outputs = session.run(feeds)
        except RuntimeFailure as failure:
            raise not_verified(
                f"ONNX Runtime cannot run the graph {graph} on {shapes}.", _shorten(failure)
            ) from failure
        if graph not in self.samples or _rank(feeds) < _rank(self.samples[graph]):
            self.samples[graph] = feeds
        self.strange += [
            f"{graph}: {name} on {shapes}"
            for name, value in outputs.items()
            if not np.isfinite(value).all()
        ]
        return outputs

    def describe_times(self) -> dict[str, Any]:
        """Return how long loading and running each graph took."""
        return {
            name: {
                "load_seconds": round(session.load_seconds, 4),
                "run_seconds": round(float(np.median(session.run_seconds or [0.0])), 4),
                "runs": len(session.run_seconds),
            }
            for name, session in self.sessions.items()
        }


def _rank(feeds: Arrays) -> tuple[int, int]:
    """Return a key: few pictures or objects before many, then large inputs before small ones."""
    batch = max((value.shape[0] for value in feeds.values() if value.ndim), default=1)
    return batch, -sum(value.nbytes for value in feeds.values())


def _shorten(failure: RuntimeFailure) -> str:
    return " ".join(str(failure).split())[:500]
