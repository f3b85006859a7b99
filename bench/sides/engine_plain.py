"""An engine as a short script builds it with TensorRT's own API, and nothing checked.

It imports nothing but TensorRT for RTX. Runs inside the environment `rtx`; its last line is one of
JSON, with the same figures as our side's:

    python bench/sides/engine_plain.py SETTINGS.json GRAPH.onnx OUT.engine

SETTINGS.json has what the user of such a script would write into it: `shapes` (by input, min, opt
and max of its dims), `gpus`, `tf32` and `verbosity`.
"""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import tensorrt_rtx_bindings as trt

VERBOSITIES = {"none": "NONE", "layer-names": "LAYER_NAMES_ONLY", "detailed": "DETAILED"}


class Log(trt.ILogger):  # type: ignore[misc]
    """Keeps what TensorRT says: the memory that an engine takes is told nowhere else."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.lines: list[str] = []

    def log(self, _: Any, text: str) -> None:
        """Take a line."""
        self.lines.append(text)


def apply_shapes(builder: Any, network: Any, shapes: dict[str, Any]) -> Any:
    """Give inputs the dims that are fixed; return a profile of the others, None where there are
    none.
    """
    profile = None
    for index in range(network.num_inputs):
        value = network.get_input(index)
        if value.name in shapes:
            low, best, high = shapes[value.name]
            value.shape = [a if a == c else -1 for a, c in zip(low, high, strict=True)]
            if low != high:
                if profile is None:
                    profile = builder.create_optimization_profile()
                profile.set_shape(value.name, low, best, high)
    return profile


def build(settings: dict[str, Any], graph: Path, out: Path) -> dict[str, Any]:
    """Build the engine of a graph and write it; return what it took."""
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    began = time.perf_counter()
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        raise SystemExit(f"{graph}: {[parser.get_error(i) for i in range(parser.num_errors)]}")
    parsed = time.perf_counter()

    config = builder.create_builder_config()
    verbosity = VERBOSITIES[settings["verbosity"]]
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, verbosity)
    if not settings["tf32"]:
        config.clear_flag(trt.BuilderFlag.TF32)
    if settings["gpus"] != ["portable"]:
        config.num_compute_capabilities = len(settings["gpus"])
        for index, name in enumerate(settings["gpus"]):
            config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), index)
    profile = apply_shapes(builder, network, settings["shapes"])
    if profile is not None:
        config.add_optimization_profile(profile)

    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise SystemExit("\n".join(log.lines))
    out.write_bytes(plan)
    built = time.perf_counter()
    memory = dict(re.findall(r"Total (\w+) Memory: (\d+) bytes", "\n".join(log.lines)))
    return {
        "parse_seconds": parsed - began,
        "build_seconds": built - parsed,
        "activation_memory": int(memory["Activation"]),
        "weights_memory": int(memory["Weights"]),
        "layers": network.num_layers,
        "tensorrt": trt.__version__,
    }


def main() -> None:
    """Read the command line, build, print."""
    settings, graph, out = map(Path, sys.argv[1:])
    told = json.loads(settings.read_text(encoding="utf-8"))
    print(json.dumps(build(told, graph, out)))


if __name__ == "__main__":
    main()
