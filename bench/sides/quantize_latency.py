"""Runs one side of bench.quantize in a process of its own: a picture to its embedding.

Runs inside the environment `quantize`, with onnxruntime's defaults on the CPU:

    python -m bench.sides.quantize_latency GRAPH.onnx PICTURE OUT.npy [--runs 2] [--threads 2]

OUT.npy gets the output `image_embed`, or the last one. One line of JSON goes to standard output;
the median of the runs counts, and one comes before:

    {"runtime": "onnxruntime 1.24.4", "load_seconds": S, "run_seconds": S, "peak_bytes": B}
"""

import argparse
from pathlib import Path

from bench.sides.quantize_pictures import SIDE, read_pictures
from bench.sides.side import Floats, Inputs, Side, measure, open_session, runtime_name


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description="Latency of one side of bench.quantize.")
    parser.add_argument("graph", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, default=SIDE)
    options = parser.parse_args()
    ((_, picture),) = read_pictures([options.picture], options.side)
    session, seconds = open_session(options.graph, options.threads)
    names = [one.name for one in session.get_outputs()]

    def run(given: Inputs) -> Floats:
        # All outputs, as a user fetches them.
        outputs: list[Floats] = session.run(names, given)
        return outputs[names.index("image_embed") if "image_embed" in names else -1]

    side = Side(runtime=runtime_name(), run=run, load_seconds=seconds)
    measure(side, {"image": picture}, options.out, runs=options.runs)


if __name__ == "__main__":
    main()
