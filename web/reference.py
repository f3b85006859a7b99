"""Writes what native ONNX Runtime computes, for web/check.mjs to compare with.

Runs inside the export environment:

    python web/reference.py FOLDER OUT [--seed 0] [--threads 2]

FOLDER holds encoder.onnx and decoder.onnx. OUT receives reference.json and one raw little-endian
file per tensor. The encoder runs once on a seeded picture-like tensor; the decoder runs on the
encoder's outputs with one prompt set (two points), and with three (a box and two points each);
where the graph takes mask prompts, all sets but the first have one.
"""

import argparse
import json
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


def make_picture(size: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Make a smooth gradient with noise on it, in the range of a normalized photograph.

    Returns:
        float32 [1, 3, size, size], roughly -2 to 2.
    """
    ramp = np.linspace(-1.5, 1.5, size, dtype=np.float32)
    planes = np.stack([ramp[:, None] + 0 * ramp, ramp + 0 * ramp[:, None], ramp[:, None] * ramp])
    noise = random.uniform(-0.5, 0.5, planes.shape)
    picture: NDArray[np.float32] = (planes + noise)[None].astype(np.float32)
    return picture


def make_prompts(sets: int, size: int, random: np.random.Generator) -> Tensors:
    """Make prompt inputs by their contract names, for any number of prompt sets.

    Returns:
        point_coords [sets, P, 2] in pixels of the resized picture, point_labels [sets, P] with
        1 foreground, 0 background, 2 and 3 box corners; mask_input [sets, 1, size/4, size/4];
        has_mask_input [sets].
    """
    labels = [1, 0] if sets == 1 else [2, 3, 1, 0]
    shape = (sets, len(labels), 2)
    return {
        "point_coords": random.uniform(0.1 * size, 0.9 * size, shape).astype(np.float32),
        "point_labels": np.tile(np.array(labels, dtype=np.float32), (sets, 1)),
        "mask_input": random.normal(0, 4, (sets, 1, size // 4, size // 4)).astype(np.float32),
        "has_mask_input": np.array([0, *[1] * (sets - 1)], dtype=np.float32),
    }


def run_graph(session: onnxruntime.InferenceSession, available: Tensors) -> tuple[Tensors, Tensors]:
    """Run a graph on those of the available tensors that it takes: (its inputs, its outputs)."""
    feeds = {entry.name: available[entry.name] for entry in session.get_inputs()}
    names = [entry.name for entry in session.get_outputs()]
    return feeds, dict(zip(names, session.run(names, feeds), strict=True))


def write_case(out: Path, name: str, graph: str, inputs: Tensors, outputs: Tensors) -> object:
    """Write the tensors of one case and return its entry for reference.json."""

    def write(role: str, tensors: Tensors) -> dict[str, object]:
        entries: dict[str, object] = {}
        for key, tensor in tensors.items():
            file = f"{name}.{role}.{key}.bin"
            (out / file).write_bytes(np.ascontiguousarray(tensor).tobytes())
            entries[key] = {"file": file, "dtype": str(tensor.dtype), "dims": list(tensor.shape)}
        return entries

    return {
        "name": name,
        "graph": graph,
        "inputs": write("in", inputs),
        "outputs": write("out", outputs),
    }


def main() -> None:
    """Read the command line and write the reference folder."""
    parser = argparse.ArgumentParser(description="Native ONNX Runtime outputs for check.mjs.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(options.seed)

    encoder = open_graph(options.folder / "encoder.onnx", options.threads)
    size = int(encoder.get_inputs()[0].shape[-1])
    picture, features = run_graph(encoder, {"image": make_picture(size, random)})
    cases = [write_case(options.out, "encoder", "encoder", picture, features)]

    decoder = open_graph(options.folder / "decoder.onnx", options.threads)
    for sets in (1, 3):
        inputs, outputs = run_graph(decoder, features | make_prompts(sets, size, random))
        cases.append(write_case(options.out, f"decoder-{sets}", "decoder", inputs, outputs))

    document = {"runtime": f"onnxruntime {onnxruntime.__version__}", "cases": cases}
    (options.out / "reference.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
