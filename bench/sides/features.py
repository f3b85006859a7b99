"""Runs one side of bench.dinov2 in a process of its own: a seeded picture to its tokens.

Runs inside the export environment:

    python -m bench.sides.features onnx GRAPH.onnx OUT.npy [--runs 3]
    python -m bench.sides.features eager SETTINGS WEIGHTS.safetensors OUT.npy [...]

`onnx` opens a graph of one picture input in ONNX Runtime on the CPU, with its defaults; `eager` is
timm's network in PyTorch, at its native size. SETTINGS are the model's of the catalog, as JSON.
OUT.npy gets float32 [1, N, D]: the class token, registers and patches, whichever outputs they come
in. One line of JSON goes to standard output; the median of the runs counts, and one comes before:

    {"runtime": "onnxruntime 1.20.1", "load_seconds": S, "run_seconds": S, "peak_bytes": B}
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.sides.side import Floats, Inputs, Side, measure, open_session, runtime_name

PICTURE: Final = "picture"


def make_picture(height: int, width: int, seed: int = 0) -> Floats:
    """Return a picture of normalized noise, float32 [1, 3, height, width]."""
    return np.random.default_rng(seed).standard_normal((1, 3, height, width), np.float32)


def open_graph(path: Path, threads: int) -> tuple[Side, tuple[int, int]]:
    """Return a graph in a new session of ONNX Runtime, and the height and width of its picture.

    Raises:
        ValueError: It takes more than one picture of a known size.
    """
    session, seconds = open_session(path, threads)
    inputs = session.get_inputs()
    height, width = inputs[0].shape[2:] if len(inputs[0].shape) == 4 else (None, None)
    if len(inputs) != 1 or not isinstance(height, int) or not isinstance(width, int):
        raise ValueError(f"{path} does not take one picture of one size")

    def run(given: Inputs) -> Floats:
        return join_tokens(session.run(None, {inputs[0].name: given[PICTURE]}))

    return Side(runtime=runtime_name(), run=run, load_seconds=seconds), (height, width)


def join_tokens(outputs: list[Floats]) -> Floats:
    """Return outputs [1, D] and [1, n, D], in order, as one [1, N, D]."""
    return np.concatenate([one.reshape(1, -1, one.shape[-1]) for one in outputs], axis=1)


def open_upstream(
    settings: Mapping[str, Any], weights: Path, threads: int
) -> tuple[Side, tuple[int, int]]:
    """Open timm's network in PyTorch, and the height and width of its picture."""
    import torch

    from exporters.dinov2.model import load_model

    torch.set_num_threads(threads)
    vit: Any = load_model(settings, weights)

    def run(given: Inputs) -> Floats:
        with torch.inference_mode():
            tokens: Floats = vit.forward_features(torch.from_numpy(given[PICTURE])).numpy()
        return tokens

    side = int(settings["native"])
    return Side(runtime=f"torch {torch.__version__}", run=run), (side, side)


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description="One side of bench.dinov2.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    graph = kinds.add_parser("onnx")
    graph.add_argument("graph", type=Path)
    eager = kinds.add_parser("eager")
    eager.add_argument("settings", type=json.loads)
    eager.add_argument("weights", type=Path)
    for one in (graph, eager):
        one.add_argument("out", type=Path)
        one.add_argument("--runs", type=int, default=3)
        one.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.kind == "onnx":
        side, size = open_graph(options.graph, options.threads)
    else:
        side, size = open_upstream(options.settings, options.weights, options.threads)
    measure(side, {PICTURE: make_picture(*size)}, options.out, runs=options.runs)


if __name__ == "__main__":
    main()
