"""Stage engine: verified graphs become TensorRT engines, one each."""

from collections.abc import Mapping
from typing import Any

from modelkiln.catalog.parameters import entries
from modelkiln.catalog.profiles import WHICH, spell_shapes
from modelkiln.catalog.target import Target
from modelkiln.planning.graph import Input
from modelkiln.planning.stages.making import Making, Stage

# Formats of these promise Q and DQ in the graphs that they quantize.
QUANTIZED = ("int8", "fp8")

# What of a contract's graph its engine is held against.
SIGNATURE = ("name", "inputs", "outputs")


def plan(making: Making) -> str:
    """Make the step."""
    target = making.target
    return making.add(
        "engine",
        f"{target.name}/engine",
        engine_params(making),
        engine_inputs(making),
        environment=target.format.environment,
        modules=("exporters.stages.engine",),
        unpromised=target.unpromised,
    )


def engine_params(making: Making) -> dict[str, Any]:
    """Return what the engines of a target are built from and for."""
    target, source, options = making.target, making.base, making.target.format.options
    return {
        "flavour": options["flavour"],
        "graphs": [{key: one[key] for key in SIGNATURE} for one in target.graphs],
        "onnx": _name_files(source),
        "engines": target.engine_files,
        "shapes": {
            graph["name"]: {
                name: [one[which] for which in WHICH]
                for name, one in spell_shapes(graph, target.profiles[graph["name"]]).items()
            }
            for graph in target.graphs
        },
        "precision": options["precision"],
        "quantized": source.quantized if options["precision"] in QUANTIZED else [],
        "gpus": entries(target.format_parameters["gpu"]),
        "tf32": bool(options["tf32"]),
        "verbosity": options["verbosity"],
    }


def engine_inputs(making: Making) -> dict[str, Input]:
    """Return the graphs that engines are built from, and what is known of their precision."""
    inputs = making.base_graphs()
    if "quantize" in making.base.format.stages:
        inputs |= making.output("quantize", "quantization.json")
    return inputs


def _name_files(source: Target) -> Mapping[str, list[str]]:
    return {
        graph["name"]: [graph[kind] for kind in ("file", "data") if kind in graph]
        for graph in source.graphs
    }


STAGE = Stage(plan=plan)
