"""The stage `quantize`: verified float32 graphs become graphs in lower precision.

Graphs that are not quantized go on as they are, byte by byte. `quantization.json` says what became
of every layer, how many integer kernels onnxruntime's CPU provider should find, and where float16
is too small.
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from onnx import ModelProto, version_converter

from exporters.graphs.external_data import files_of, take_in_all, total_bytes, write_files
from exporters.graphs.structure import (
    declare_outputs,
    describe,
    infer_strictly,
    name_nodes,
    opsets_of,
    read_graph,
    rejoin,
    set_aside,
    set_metadata,
)
from exporters.memory import return_freed_memory
from exporters.precision.float16_range import (
    LARGEST,
    bound_values,
    describe_range,
    find_overflowing,
)
from exporters.precision.layers import find_layers
from exporters.precision.qdq import Layout, QdqWriter
from exporters.protocol import Result, StageError, Step, as_sentence, report_progress, write_json


class Mode(StrEnum):
    """What the numbers become."""

    FP16 = "fp16"
    INT8 = "int8"
    INT8_DYNAMIC = "int8-dynamic"
    FP8 = "fp8"

    @property
    def static(self) -> bool:
        """Whether activations have scales, so that a calibration is needed."""
        return self in (Mode.INT8, Mode.FP8)


def run(step: Step) -> Result:
    """Quantize the graphs that the step names; write all of them, and `quantization.json`.

    Parameters: `mode`, `layout`, `graphs` (the contract's, all), `quantized` (names), `op_types`,
    `qdq_for_weights`, `dtype` (of what is not quantized), `halved` (names of graphs that become
    float16 whole; may be left out), `opset` (of the finished graphs) and `metadata`.

    Raises:
        StageError: A graph has no layer to quantize, or the result is no valid graph.
    """
    return_freed_memory()
    mode = Mode(step.param("mode"))
    ranges: Mapping[str, Any] = {}
    if mode.static or is_half(step):
        ranges = json.loads(step.input("calibration.json").read_text(encoding="utf-8"))
    graphs: Sequence[Mapping[str, Any]] = step.param("graphs")
    found: dict[str, Any] = {}
    for index, golden in enumerate(graphs):
        files = [step.input(name) for name in files_of(golden)]
        halved = golden["name"] in step.params.get("halved", ())
        if not halved and golden["name"] not in step.param("quantized"):
            for name, file in zip(files_of(golden), files, strict=True):
                shutil.copyfile(file, step.out / name)
            continue
        report_progress(index / len(graphs), f"quantizing {golden['name']}")
        one = _Quantizer(step, Mode.FP16 if halved else mode, golden, files[0], ranges).write()
        # None of its layers was to be quantized, so none is told as left out.
        found[golden["name"]] = {**one, "linears": 0, "left_out": []} if halved else one
    document = {
        "mode": mode,
        "layout": find_layout(step) if mode.static else "",
        "dtype": step.param("dtype"),
        "calib_method": ranges.get("method", ""),
        "pictures": len(ranges.get("pictures", ())),
        "graphs": found,
        "untouched": [golden["name"] for golden in graphs if golden["name"] not in found],
    }
    write_json(step.out / "quantization.json", document)
    return Result(
        outputs=[*(name for golden in graphs for name in files_of(golden)), "quantization.json"],
        metrics={
            "graphs": {golden["name"]: _describe(golden, step.out) for golden in graphs},
            "quantization": {
                name: {key: value for key, value in one.items() if key != "layers"}
                for name, one in found.items()
            },
        },
    )


def _describe(golden: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    size = total_bytes(folder / name for name in files_of(golden))
    return describe(read_graph(folder / golden["file"]), size)


def is_half(step: Step) -> bool:
    """Return whether a step writes float16, so that what it holds has to fit."""
    return Mode(step.param("mode")) is Mode.FP16 or step.param("dtype") == "fp16"


def _read_magnitudes(calibration: Mapping[str, Any], graph: str) -> dict[str, float]:
    """Return the largest magnitudes of a graph's values.

    Raises:
        StageError: The calibration did not observe them.
    """
    if graph not in calibration["largest"]:
        raise StageError(
            f"The range of {graph} is not known.",
            "FP16 ends at 65504, and the calibration did not look at what the graph reaches.",
            "Report this as a fault of the plan.",
        )
    found: Mapping[str, float | None] = calibration["largest"][graph]
    return {name: math.inf if value is None else value for name, value in found.items()}


def find_layout(step: Step) -> Layout:
    """Return the layout of a step's graphs.

    Integer kernels with float16 around them are TensorRT's, and int32 biases would only hinder.
    """
    return Layout.EXPLICIT if step.param("dtype") == "fp16" else Layout(step.param("layout"))


class _Quantizer:
    """One graph on its way."""

    def __init__(
        self,
        step: Step,
        mode: Mode,
        golden: Mapping[str, Any],
        path: Path,
        calibration: Mapping[str, Any],
    ) -> None:
        self._step = step
        self._mode = mode
        self._golden = golden
        self._path = path
        self._half = is_half(step)
        self._layout = find_layout(step)
        self._ranges: Mapping[str, float] = calibration.get("graphs", {}).get(golden["name"], {})
        self._largest = _read_magnitudes(calibration, golden["name"]) if self._half else {}
        self._model = read_graph(path)
        self._layers = find_layers(self._model, step.param("op_types"))
        self._chosen = [layer for layer in self._layers if not layer.reason]

    def write(self) -> dict[str, Any]:
        """Write the graph's files; return its part of `quantization.json`."""
        if not self._chosen and self._mode is not Mode.FP16:
            raise StageError(
                f"The graph {self._golden['name']} has no layer to quantize.",
                as_sentence(
                    self._layers[0].reason if self._layers else "it has no constant weights"
                ),
                "Name other operators with --op-types-to-quantize, or build the float32 format.",
            )
        model, scales = self._quantize()
        chosen = [] if scales is None else self._chosen
        extent: dict[str, Any] = {}
        if self._half:
            # Imported late: it takes seconds, and the other modes go without it.
            from exporters.precision.half import KEPT_IN_FLOAT32, halve

            take_in_all(model, self._path.parent)
            name_nodes(model)
            bounds = bound_values(model, self._largest)
            kept = find_overflowing(model, bounds)
            extent["float16"] = describe_range(model, self._largest, bounds, kept, KEPT_IN_FLOAT32)
            names = {node.name for node in model.graph.node if node.output[0] in kept}
            model = halve(model, self._step.param("opset"), names)
        model = _finish(model, self._golden, self._step.param("metadata"))
        write_files(model, self._golden, self._step.out, self._path.parent)
        before = total_bytes(self._step.input(name) for name in files_of(self._golden))
        after = total_bytes(self._step.out / name for name in files_of(self._golden))
        return {
            "linears": sum(one.op != "Conv" for one in self._layers),
            "quantized": sum(one.op != "Conv" for one in chosen),
            "convolutions": sum(one.op == "Conv" for one in chosen),
            "left_out": [
                {"node": one.output, "op": one.op, "reason": one.reason}
                for one in self._layers
                if one.reason
            ],
            "integer_kernels": self._count_integer_kernels(),
            "layers": [
                {
                    "node": one.output,
                    "op": one.op,
                    "input": one.input,
                    "scale": (scales or {}).get(one.output),
                }
                for one in chosen
            ],
            "bytes": {"before": before, "after": after},
            **extent,
        }

    def _quantize(self) -> tuple[ModelProto, Mapping[str, float] | None]:
        """Return the quantized graph, and the scale of each layer's activation where there are
        any.
        """
        scratch = self._step.out.parent / f"quantize-{self._golden['name']}"
        scratch.mkdir()
        if self._mode is Mode.INT8_DYNAMIC:
            from exporters.precision.dynamic import quantize_on_the_fly

            return quantize_on_the_fly(self._path, self._chosen, scratch), {}
        model = _raise_opset(self._model, self._step.param("opset"))
        if self._mode is Mode.FP16:
            return model, None
        writer = QdqWriter(
            model=model,
            source=self._path.parent,
            ranges=self._ranges,
            layout=self._layout,
            fp8=self._mode is Mode.FP8,
            qdq_weights=bool(self._step.param("qdq_for_weights")),
            half=self._half,
            wide=self._find_wide(),
        )
        return model, writer.write(self._chosen)

    def _find_wide(self) -> list[str]:
        """Return the layers that float16 cannot hold, by their outputs."""
        return [
            layer.output
            for layer in self._chosen
            if self._ranges.get(layer.input, 0) > LARGEST
            or self._largest.get(layer.output, 0) > LARGEST
        ]

    def _count_integer_kernels(self) -> int:
        """Return how many layers the options let onnxruntime's CPU provider compute in integers.

        Convolutions are not counted: whether one does depends on what follows it.
        """
        fit = self._mode is Mode.INT8 and self._layout is Layout.ONNXRUNTIME
        if fit or self._mode is Mode.INT8_DYNAMIC:
            return sum(layer.op != "Conv" for layer in self._chosen)
        return 0


def _raise_opset(model: ModelProto, opset: int) -> ModelProto:
    """Return the graph at this opset, if its own is lower, with the shapes that ONNX infers.

    Its weights stay out of the way of the tools.
    """
    structure, weights = set_aside(model)
    if opsets_of(model)[""] < opset:
        structure = version_converter.convert_version(structure, opset)
    structure = infer_strictly(structure)
    for output, declared in zip(structure.graph.output, model.graph.output, strict=True):
        output.CopyFrom(declared)
    rejoin(structure, weights)
    return structure


def _finish(
    model: ModelProto, golden: Mapping[str, Any], metadata: Mapping[str, str]
) -> ModelProto:
    """Infer the shapes anew, declare the contract's outputs, set labels."""
    name_nodes(model)
    structure, weights = set_aside(model)
    structure.graph.name = golden["name"]
    structure = infer_strictly(structure)
    declare_outputs(structure, golden)
    set_metadata(structure, metadata)
    rejoin(structure, weights)
    return structure
