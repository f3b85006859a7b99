"""Compares graphs that have the same inputs and outputs in ONNX Runtime, on the CPU.

Runs inside the export environment, and prints one line of JSON:

    python bench/sides/latency.py NAME=GRAPH.onnx [NAME=GRAPH.onnx ...] [--rounds 7] [--threads 2]

Every round opens each graph in a new session (timed), and runs each of the kept sessions once
(timed), all on the same seeded inputs; the order turns by one from round to round, so that no graph
always runs first. One run of each that is not counted comes before.

    {"runtime": "onnxruntime 1.20.1", "threads": 2, "rounds": 7,
     "graphs": {NAME: {"bytes": B, "load_seconds": [...], "run_seconds": [...]}},
     "differences": {OUTPUT: D}}

D is the largest difference from the first graph's output, relative to its largest value.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.float32]]


def open_graph(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU with a fixed number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def make_inputs(session: onnxruntime.InferenceSession, random: np.random.Generator) -> Tensors:
    """Make seeded inputs: a free first axis is one prompt set, any other free axis two points."""
    made: Tensors = {}
    for entry in session.get_inputs():
        shape = [
            size if isinstance(size, int) else (1 if axis == 0 else 2)
            for axis, size in enumerate(entry.shape)
        ]
        values = random.normal(size=shape)
        if entry.name == "point_coords":
            values = random.uniform(0, 1024, shape)
        elif entry.name in ("point_labels", "has_mask_input"):
            values = np.ones(shape)
        made[entry.name] = values.astype(np.float32)
    return made


def compare_outputs(first: Tensors, other: Tensors) -> dict[str, float]:
    """Return the largest difference of each output, relative to the first one's largest value."""
    return {
        name: float(np.abs(first[name] - other[name]).max() / np.abs(first[name]).max())
        for name in first
    }


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Latency and load time of ONNX graphs.")
    parser.add_argument("graphs", nargs="+", metavar="NAME=GRAPH.onnx")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    paths = {name: Path(path) for name, path in (pair.split("=", 1) for pair in options.graphs)}

    sessions = {name: open_graph(path, options.threads) for name, path in paths.items()}
    inputs = make_inputs(next(iter(sessions.values())), np.random.default_rng(0))
    names = [entry.name for entry in next(iter(sessions.values())).get_outputs()]
    outputs = {
        name: dict(zip(names, session.run(names, inputs), strict=True))
        for name, session in sessions.items()
    }
    first = next(iter(outputs.values()))
    differences = dict.fromkeys(names, 0.0)
    for other in outputs.values():
        for name, value in compare_outputs(first, other).items():
            differences[name] = max(differences[name], value)

    loads: dict[str, list[float]] = {name: [] for name in paths}
    runs: dict[str, list[float]] = {name: [] for name in paths}
    order = list(paths)
    for _ in range(options.rounds):
        for name in order:
            start = time.perf_counter()
            opened = open_graph(paths[name], options.threads)
            loads[name].append(time.perf_counter() - start)
            del opened
        for name in order:
            start = time.perf_counter()
            sessions[name].run(names, inputs)
            runs[name].append(time.perf_counter() - start)
        order = order[1:] + order[:1]

    report = {
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "threads": options.threads,
        "rounds": options.rounds,
        "graphs": {
            name: {
                "bytes": path.stat().st_size,
                "load_seconds": loads[name],
                "run_seconds": runs[name],
            }
            for name, path in paths.items()
        },
        "differences": differences,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
