"""Runs one side of bench.tracker in a process of its own: memory attention on seeded inputs.

Runs inside the export environment:

    python -m bench.sides.attention onnx GRAPH.onnx OUT.npy [--frames 7] [--pointers 16]
    python -m bench.sides.attention eager CONFIG WEIGHTS.safetensors OUT.npy [...]

`onnx` opens a graph of the contract tracker in ONNX Runtime on the CPU, with its defaults; `eager`
is upstream's own module in PyTorch, unpatched. The second run is timed. OUT.npy gets the output,
and one line of JSON goes to standard output:

    {"runtime": "onnxruntime 1.20.1", "load_seconds": S, "run_seconds": S, "peak_bytes": B}

`load_seconds` is null for PyTorch; `peak_bytes` is the most memory that the process ever held.
"""

import argparse
from pathlib import Path
from typing import Any

from bench.sides.attention_inputs import (
    MOST_POINTERS,
    NAMES,
    OUTPUT,
    TOKENS_PER_POINTER,
    make_inputs,
)
from bench.sides.side import Floats, Inputs, Side, measure, open_session, runtime_name

Sized = tuple[Side, int]


def open_graph(path: Path, threads: int) -> Sized:
    """Return a graph, in a new session of ONNX Runtime, and the cells along an axis of its feature
    map.

    Raises:
        ValueError: Its inputs are not the contract's.
    """
    session, seconds = open_session(path, threads)
    if tuple(one.name for one in session.get_inputs()) != NAMES:
        raise ValueError(f"{path} is not a memory attention of the contract tracker")

    def run(inputs: Inputs) -> Floats:
        output: Floats = session.run([OUTPUT], inputs)[0]
        return output

    side = Side(runtime=runtime_name(), run=run, load_seconds=seconds)
    return side, int(session.get_inputs()[0].shape[-1])


def open_upstream(config: str, overrides: list[str], weights: Path, threads: int) -> Sized:
    """Open upstream's module in PyTorch, and the cells along an axis of its feature map."""
    import torch

    from exporters.sam2.model import load_model

    torch.set_num_threads(threads)
    sam: Any = load_model(config, overrides, weights)

    def run(inputs: Inputs) -> Floats:
        with torch.inference_mode():
            tensors = [torch.from_numpy(inputs[name]) for name in NAMES]
            output: Floats = attend(sam, *tensors).numpy()
        return output

    side = Side(runtime=f"torch {torch.__version__}", run=run)
    return side, int(sam.image_size) // int(sam.backbone_stride)


def attend(
    sam: Any, feature: Any, places: Any, pointers: Any, maps: Any, positions: Any, since: Any
) -> Any:
    """Return an unpatched `SAM2Base`'s memory attention on the contract's inputs, in the contract's
    order.

    Upstream wants tokens first, then objects, then channels.
    """
    import torch
    from sam2.modeling.sam2_utils import get_1d_sine_pe

    cells = maps.flatten(3).permute(1, 3, 0, 2).flatten(0, 1)
    tokens = pointers.unflatten(2, (TOKENS_PER_POINTER, -1)).flatten(1, 2).transpose(0, 1)
    steps = torch.arange(1.0, pointers.shape[1])
    times = torch.cat([since.reshape(1), steps]) / (MOST_POINTERS - 1)
    encoded = sam.obj_ptr_tpos_proj(get_1d_sine_pe(times, sam.hidden_dim))
    encoded = encoded[:, None].repeat_interleave(TOKENS_PER_POINTER, dim=0)
    attended = sam.memory_attention(
        curr=[feature.flatten(2).permute(2, 0, 1) - sam.no_mem_embed],
        curr_pos=[places],
        memory=torch.cat([cells, tokens]),
        memory_pos=torch.cat([positions.transpose(0, 1)[: len(cells)], encoded]),
        num_obj_ptr_tokens=len(tokens),
    )
    return attended.permute(1, 2, 0).reshape(1, -1, *feature.shape[2:])


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description="One side of bench.tracker.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    graph = kinds.add_parser("onnx")
    graph.add_argument("graph", type=Path)
    eager = kinds.add_parser("eager")
    eager.add_argument("config")
    eager.add_argument("weights", type=Path)
    eager.add_argument("--override", action="append", default=[])
    for one in (graph, eager):
        one.add_argument("out", type=Path)
        one.add_argument("--frames", type=int, default=7)
        one.add_argument("--pointers", type=int, default=16)
        one.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.kind == "onnx":
        side, cells = open_graph(options.graph, options.threads)
    else:
        side, cells = open_upstream(
            options.config, options.override, options.weights, options.threads
        )
    measure(side, make_inputs(options.frames, options.pointers, cells), options.out)


if __name__ == "__main__":
    main()
