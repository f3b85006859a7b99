"""The error of every linear layer's output, bias included, in quantized graphs beside float32's.

Runs inside the environment `quantize`, and prints one line of JSON:

    python -m bench.sides.quantize_layers BASE.onnx PICTURE SCRATCH NAME=GRAPH.onnx [...]
        [--threads 2]

    {"layers": [{"name": "/blocks.0/attn/qkv/MatMul_output_0", "op": "MatMul",
                 "errors": {NAME: R}, "quantized": [NAME, ...]}, ...]}

Layers come in the float32 graph's order. R is the L2 norm of the difference of the values, by that
of float32's. Values are outputs of the graphs under their own names, fetched in groups so that they
take little memory; SCRATCH gets graphs with these outputs.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.sides.quantize_errors import relative_error, sum_squares
from bench.sides.quantize_graphs import find_linears, find_quantized, missing, value_of
from bench.sides.quantize_pictures import SIDE, read_pictures
from bench.sides.side import open_session
from exporters.graphs.structure import dims_of

GROUP_BYTES = 400_000_000


def expose(path: Path, values: Sequence[str], folder: Path, threads: int) -> Any:
    """Return a session on a graph that has some of its values as outputs as well.

    Raises:
        ValueError: The graph has no value of such a name.
    """
    model = onnx.load_model(path, load_external_data=False)
    lost = missing(model, values)
    if lost:
        raise ValueError(f"{path} lacks {len(lost)} values, such as {lost[0]}")
    declared = {one.name for one in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in values if name not in declared
    )
    folder.mkdir(parents=True)
    for one in path.parent.iterdir():
        if one != path and one.is_file():
            # No link: onnxruntime reads no weights from outside of the graph's folder.
            shutil.copyfile(one, folder / one.name)
    exposed = folder / path.name
    exposed.write_bytes(model.SerializeToString())
    session, _ = open_session(exposed, threads)
    return session


def group(values: Sequence[str], sizes: Mapping[str, int], room: int) -> Iterator[list[str]]:
    """Yield values in order, in groups of so many bytes at most; one that is larger is alone."""
    gathered: list[str] = []
    held = 0
    for name in values:
        if gathered and held + sizes[name] > room:
            yield gathered
            gathered, held = [], 0
        gathered.append(name)
        held += sizes[name]
    if gathered:
        yield gathered


def measure_layers(
    base: Path,
    graphs: Mapping[str, Path],
    picture: NDArray[np.float32],
    scratch: Path,
    threads: int,
    room: int = GROUP_BYTES,
) -> list[dict[str, Any]]:
    """Measure the errors of every linear layer, and in which graphs it is quantized."""
    model = onnx.load_model(base, load_external_data=False)
    layers = find_linears(model)
    values = [value_of(layer) for layer in layers]
    shapes = {one.name: dims_of(one) for one in (*model.graph.value_info, *model.graph.output)}
    sizes = {
        name: 4 * int(np.prod([dim if isinstance(dim, int) else 1 for dim in shapes[name] or []]))
        for name in values
    }
    open_graphs = {
        name: expose(path, values, scratch / f"exposed-{index}", threads)
        for index, (name, path) in enumerate({"": base, **graphs}.items())
    }
    quantized = {
        name: find_quantized(model, onnx.load_model(path, load_external_data=False))
        for name, path in graphs.items()
    }
    errors: dict[str, dict[str, float]] = {name: {} for name in values}
    for names in group(values, sizes, room):
        wanted = open_graphs[""].run(names, {"image": picture})
        for side in graphs:
            found = open_graphs[side].run(names, {"image": picture})
            for name, one, other in zip(names, wanted, found, strict=True):
                # Rows may be flattened, never reordered.
                apart = sum_squares(other.reshape(one.shape) - one)
                errors[name][side] = relative_error(apart, sum_squares(one))
    return [
        {
            "name": layer.output,
            "op": layer.op,
            "errors": errors[value],
            "quantized": [side for side in graphs if layer.output in quantized[side]],
        }
        for layer, value in zip(layers, values, strict=True)
    ]


def main() -> None:
    """Read the command line, compare, print."""
    parser = argparse.ArgumentParser(description="Errors of quantized graphs, by layer.")
    parser.add_argument("base", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("graphs", nargs="+", metavar="NAME=GRAPH.onnx")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, default=SIDE)
    options = parser.parse_args()
    graphs = {name: Path(path) for name, path in (one.split("=", 1) for one in options.graphs)}
    ((_, picture),) = read_pictures([options.picture], options.side)
    layers = measure_layers(options.base, graphs, picture, options.scratch, options.threads)
    print(json.dumps({"layers": layers}))


if __name__ == "__main__":
    main()
