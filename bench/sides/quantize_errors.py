"""How far quantized graphs are from the float32 one on held-out pictures, and what kernels ran.

Runs inside the environment `quantize`, and prints one line of JSON:

    python -m bench.sides.quantize_errors BASE.onnx PICTURES NAME=GRAPH.onnx [...] [--threads 2]

    {"pictures": ["astronaut.jpg", ...],
     "graphs": {NAME: {"errors": {OUTPUT: {"relative": R, "snr_db": S, "by_picture": [R, ...]}},
                       "kernels": {"QGemm": 51}}}}

R is the L2 norm of the difference by that of float32's output, over all pictures together; S is the
same in decibels. Kernels are the integer ones of a profile of one run.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.sides.quantize_pictures import SIDE, read_pictures
from bench.sides.side import open_session
from exporters.checks.kernels import count_kernels

Tensors = dict[str, NDArray[np.float32]]


def run_graph(path: Path, pictures: Sequence[NDArray[np.float32]], threads: int) -> list[Tensors]:
    """Return a graph's outputs by name, for each picture."""
    session, _ = open_session(path, threads)
    (image,) = (one.name for one in session.get_inputs())
    names = [one.name for one in session.get_outputs()]
    return [dict(zip(names, session.run(names, {image: one}), strict=True)) for one in pictures]


def relative_error(difference: float, size: float) -> float:
    """Return, of two sums of squares, the root of their ratio."""
    return float(np.sqrt(difference / size))


def compare(wanted: Sequence[Tensors], found: Sequence[Tensors]) -> dict[str, Any]:
    """Return the errors of each output, over all pictures and by picture.

    Raises:
        ValueError: The outputs are others.
    """
    told = {}
    for name in wanted[0]:
        if any(name not in one or one[name].shape != wanted[0][name].shape for one in found):
            raise ValueError(f"there is no output {name} of this shape")
        squares = [
            (sum_squares(mine[name] - base[name]), sum_squares(base[name]))
            for base, mine in zip(wanted, found, strict=True)
        ]
        relative = relative_error(*(sum(column) for column in zip(*squares, strict=True)))
        told[name] = {
            "relative": relative,
            "snr_db": float(-20 * np.log10(relative)) if relative else None,
            "by_picture": [relative_error(*one) for one in squares],
        }
    return told


def sum_squares(values: NDArray[np.float32]) -> float:
    """Sum squares in double precision."""
    return float(np.square(values, dtype=np.float64).sum())


def main() -> None:
    """Read the command line, compare, print."""
    parser = argparse.ArgumentParser(description="Errors of quantized graphs.")
    parser.add_argument("base", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("graphs", nargs="+", metavar="NAME=GRAPH.onnx")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, default=SIDE)
    options = parser.parse_args()
    graphs = {name: Path(path) for name, path in (one.split("=", 1) for one in options.graphs)}
    files = sorted(one for one in options.pictures.iterdir() if one.suffix in (".jpg", ".png"))
    read = dict(read_pictures(files, options.side))
    pictures = list(read.values())
    wanted = run_graph(options.base, pictures, options.threads)
    told = {}
    for name, path in graphs.items():
        found = run_graph(path, pictures, options.threads)
        kernels = count_kernels(path, options.threads, {"image": pictures[0]})
        told[name] = {"errors": compare(wanted, found), "kernels": kernels["names"]}
    print(json.dumps({"pictures": list(read), "graphs": told}))


if __name__ == "__main__":
    main()
