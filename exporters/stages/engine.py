"""The stage `engine`: graphs become TensorRT engines, one each.

What can be known without a GPU is checked before anything is compiled: names, types and dims of the
parsed network against the contract, the types that its layers compute in, and the shapes. Nothing
is run: an engine that this writes is built, and no more.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporters.protocol import Result, StageError, Step, as_sentence, report_progress, write_json
from exporters.tensorrt.build import Settings, apply_shapes, build_engine
from exporters.tensorrt.flavours import FLAVOURS, load_bindings
from exporters.tensorrt.network import Network, Tensor, count_types
from exporters.tensorrt.precision import Precision, find_precision_faults
from exporters.tensorrt.signature import Shapes, find_axes, find_differences, is_fixed

DOCUMENT = "engines.json"


def run(step: Step) -> Result:
    """Build the engine of every graph; write them, and `engines.json`.

    Parameters: `flavour`, `graphs` (the contract's, all), `onnx` (by graph, the names of its files
    among the inputs, the .onnx file first), `engines` (by graph, the name of its file), `shapes`
    (by graph and input, min, opt and max of all dims), `precision`, `quantized` (names of graphs),
    `gpus`, `tf32` and `verbosity`.

    Raises:
        StageError: TensorRT is missing, does not take a graph, or a network is not what the
            contract and the precision say.
    """
    flavour: str = step.param("flavour")
    trt = load_bindings(flavour)
    settings = Settings(
        flavour=FLAVOURS[flavour],
        gpus=tuple(step.param("gpus")),
        tf32=bool(step.param("tf32")),
        verbosity=step.param("verbosity"),
    )
    graphs: Sequence[Mapping[str, Any]] = step.param("graphs")
    described: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for index, golden in enumerate(graphs):
        name = golden["name"]
        file: str = step.param("engines")[name]

        def tell(fraction: float, phase: str, index: int = index, file: str = file) -> None:
            report_progress((index + fraction) / len(graphs), f"{file}: {phase.lower()}")

        tell(0.0, "parsing")
        network, facts = read_network(step, trt, golden)
        shapes: Shapes = step.param("shapes").get(name, {})
        memory = build_engine(network, shapes, settings, step.out / file, file, tell)
        sizes[file] = (step.out / file).stat().st_size
        described[name] = {
            **facts,
            "file": file,
            "activation_memory": memory.activation,
            "weights_memory": memory.weights,
            "same_bytes": is_fixed(shapes),
        }
        # Before the next graph is parsed: each holds its weights twice.
        del network
    document = {
        "tensorrt": {
            "flavour": flavour,
            "title": FLAVOURS[flavour].title,
            "version": trt.__version__,
        },
        "gpus": list(settings.gpus),
        "precision": step.param("precision"),
        "tf32": settings.tf32,
        "verbosity": settings.verbosity,
        "graphs": described,
    }
    write_json(step.out / DOCUMENT, document)
    return Result(outputs=[*sizes, DOCUMENT], metrics={**document, "bytes": sizes})


def read_network(step: Step, trt: Any, golden: Mapping[str, Any]) -> tuple[Network, dict[str, Any]]:
    """Parse a graph and hold it against its contract; return it with what is known of it.

    Raises:
        StageError: TensorRT does not take it, or it is not what it should be.
    """
    name = golden["name"]
    files = [step.input(one) for one in step.param("onnx")[name]]
    network = Network(trt, files[0], files[0].name)
    shapes: Shapes = step.param("shapes").get(name, {})
    apply_shapes(network, shapes, name)
    inputs, outputs, layers = network.inputs, network.outputs, list(network.layers)
    differences = find_differences(golden, inputs, outputs, find_axes(golden, shapes))
    if differences:
        raise _not_as_promised(f"The network of {name} is not its contract's.", differences)
    precision = Precision(step.param("precision"))
    said = read_quantization(step, name)
    faults = find_precision_faults(
        precision,
        layers,
        quantized=int(said.get("quantized", 0)) if name in step.param("quantized") else 0,
        kept=[one["name"] for one in said.get("float16", {}).get("kept", ())],
    )
    if faults:
        raise _not_as_promised(f"The network of {name} is not {precision}.", faults)
    return network, {
        "onnx": [{"file": one.name, "sha256": _digest(one)} for one in files],
        "inputs": [_describe(one, shapes) for one in inputs],
        "outputs": [_describe(one, shapes) for one in outputs],
        "layers": network.definition.num_layers,
        "types": count_types(layers),
    }


def read_quantization(step: Step, graph: str) -> Mapping[str, Any]:
    """Return what is known of how a graph came to its precision; nothing of float32's."""
    if "quantization.json" not in step.inputs:
        return {}
    document = json.loads(step.input("quantization.json").read_text(encoding="utf-8"))
    found: Mapping[str, Any] = document["graphs"].get(graph, {})
    return found


def _not_as_promised(what: str, faults: Sequence[str]) -> StageError:
    return StageError(
        what,
        as_sentence("; ".join(faults)),
        "Build the ONNX target anew with --keep-scratch, and report this with its files.",
    )


def _describe(tensor: Tensor, shapes: Shapes) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "dims": list(tensor.dims),
    }
    if -1 in tensor.dims and tensor.name in shapes:
        low, opt, high = shapes[tensor.name]
        described |= {"min": list(low), "opt": list(opt), "max": list(high)}
    return described


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
