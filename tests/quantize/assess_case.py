"""A contract of two small graphs, a reference for them, and a net written as INT8 by hand.

`net` has three linear layers and stands for an encoder; `head` is untouched and makes masks of what
`net` says. Every way in which INT8 graphs go wrong can be asked for.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from exporters.graphs.sessions import Session
from exporters.protocol import Result, Step
from exporters.stages import assess

Floats = NDArray[np.float32]

WIDTHS: Final = (24, 64, 64, 40)
CLS: Final = 8
MAP: Final = WIDTHS[-1] - CLS
SIDE: Final = 12
OPSET: Final = 18
PHOTOGRAPHS: Final = ("one", "two", "three")

CONTRACT: Final[dict[str, Any]] = {
    "name": "small",
    "version": 1,
    "domains": [""],
    "forbidden_ops": [],
    "tolerances": {"parity": 1e-5, "mask_iou": 0.999, "mask_coverage": [0.02, 0.98]},
    "graphs": [
        {
            "name": "net",
            "file": "net.onnx",
            "forbidden_ops": [],
            "inputs": [{"name": "x", "dtype": "float32", "dims": ["batch", WIDTHS[0]]}],
            "outputs": [
                {"name": "cls_token", "dtype": "float32", "dims": ["batch", CLS]},
                {"name": "map", "dtype": "float32", "dims": ["batch", MAP]},
            ],
        },
        {
            "name": "head",
            "file": "head.onnx",
            "forbidden_ops": [],
            "inputs": [{"name": "map", "dtype": "float32", "dims": ["batch", MAP]}],
            "outputs": [{"name": "masks", "dtype": "float32", "dims": ["batch", SIDE * SIDE]}],
        },
    ],
}
# Between what the net loses as it comes and what it loses with one scale four times as large.
GATES: Final[dict[str, Any]] = {
    "snr_db": 30.0,
    "mask_iou": 0.95,
    "cosine": {"cls_token": 0.9996},
}


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What is wrong with the INT8 net; nothing, as it comes.

    Attributes:
        activation: A factor on the scale of each layer's activation, in Q and DQ alike.
        weight: A factor on the scale of each layer's weights.
        float_bias: Whether biases are left in float32, so that no integer kernel fits.
        overflow: Whether a number of the noise picture becomes infinite.
        foreign: Whether the graph has a valid operator for which onnxruntime has no kernel.
        drop: An output that is left out of the graph.
    """

    activation: Sequence[float] = (1, 1, 1)
    weight: Sequence[float] = (1, 1, 1)
    float_bias: Sequence[bool] = (False, False, False)
    overflow: bool = False
    foreign: bool = False
    drop: str = ""


NO_FAULTS: Final = Faults()


class Case:
    """The files of one model, and `assess` on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = np.random.default_rng(7)
        self._weights = [
            self._draw(wide, narrow) / np.float32(narrow**0.5) for narrow, wide in pairwise(WIDTHS)
        ]
        self._biases = [self._draw(wide) / np.float32(4) for wide in WIDTHS[1:]]
        self._pictures = {name: self._draw(2, WIDTHS[0]) ** 3 for name in PHOTOGRAPHS}
        self._pictures["noise"] = self._draw(2, WIDTHS[0]) * np.float32(1e4)
        folder.mkdir(parents=True, exist_ok=True)
        _save(_net(self._float_layers()), folder / "fp32/net.onnx")
        _save(self._make_head(), folder / "fp32/head.onnx")
        shutil.copyfile(folder / "fp32/head.onnx", folder / "head.onnx")
        base = {"worst": {"net/map": {"relative": 2e-7, "bound": 1e-5}}, "lowest_iou": 1.0}
        (folder / "fp32/verification.json").write_text(json.dumps({"summary": base}))
        self._write_reference()

    def _draw(self, *dims: int) -> Floats:
        return self._numbers.standard_normal(dims, dtype=np.float32)

    def _write_reference(self) -> None:
        net, head = (Session(self.folder / f"fp32/{name}.onnx", 1) for name in ("net", "head"))
        tensors: dict[str, NDArray[Any]] = {}
        self.largest = [0.0] * len(self._weights)
        for name, picture in self._pictures.items():
            found = net.run({"x": picture})
            masks = head.run({"map": found["map"]})["masks"]
            for key, value in {"x": picture, **found, "inside": masks > 0}.items():
                tensors[f"{name}/{key}"] = np.ascontiguousarray(value)
            if name in PHOTOGRAPHS:
                self._observe(picture)
        save_file(tensors, self.folder / "tensors.safetensors")
        pictures = [{"name": name, "photograph": name in PHOTOGRAPHS} for name in self._pictures]
        (self.folder / "cases.json").write_text(json.dumps({"pictures": pictures}))

    def _observe(self, values: Floats) -> None:
        for index, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            self.largest[index] = max(self.largest[index], float(np.abs(values).max()))
            values = np.abs(values @ weight.T + bias)

    def _float_layers(self) -> list[tuple[list[NodeProto], list[TensorProto]]]:
        layers = []
        for index, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            constants = [_constant(weight, f"w{index}"), _constant(bias, f"b{index}")]
            gemm = helper.make_node(
                "Gemm", [f"x{index}", f"w{index}", f"b{index}"], [f"y{index}"], transB=1
            )
            layers.append(([gemm], constants))
        return layers

    def quantize(self, faults: Faults) -> ModelProto:
        """The net with Q and DQ before every layer, INT8 weights and int32 biases."""
        layers = []
        for index, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            scale = np.float32(self.largest[index] / 127 * faults.activation[index])
            step = np.float32(np.abs(weight).max() / 127)
            integers = np.round(weight / step).astype(np.int8)
            step *= np.float32(faults.weight[index])
            constants = [
                _constant(scale, f"s{index}"),
                _constant(np.int8(0), f"z{index}"),
                _constant(integers, f"w{index}"),
                _constant(step, f"ws{index}"),
            ]
            node = helper.make_node
            nodes = [
                node("QuantizeLinear", [f"x{index}", f"s{index}", f"z{index}"], [f"q{index}"]),
                node("DequantizeLinear", [f"q{index}", f"s{index}", f"z{index}"], [f"d{index}"]),
                node("DequantizeLinear", [f"w{index}", f"ws{index}", f"z{index}"], [f"wd{index}"]),
            ]
            if faults.float_bias[index]:
                constants.append(_constant(bias, f"bd{index}"))
            else:
                constants.append(
                    _constant(np.round(bias / (scale * step)).astype(np.int32), f"b{index}")
                )
                constants.append(_constant(np.float32(scale * step), f"bs{index}"))
                nodes.append(node("DequantizeLinear", [f"b{index}", f"bs{index}"], [f"bd{index}"]))
            inputs = [f"d{index}", f"wd{index}", f"bd{index}"]
            nodes.append(node("Gemm", inputs, [f"y{index}"], transB=1))
            layers.append((nodes, constants))
        return _net(layers, faults)

    def assess(self, faults: Faults = NO_FAULTS, **changed: Any) -> Result:
        """Writes the INT8 net and runs `assess` on it.

        `changed` may hold parts of the format, and `binding`, `opset`, `plan`, entries of
        quantization.json, `head`, a file for the head's graph, `base`, more or other inputs of
        float32's, and `provider`, a module in place of `small_family`.
        """
        path = self.folder / "net.onnx"
        _save(self.quantize(faults), path)
        plan: dict[str, Any] = {
            "mode": "int8",
            "graphs": {"net": {"linears": 3, "quantized": 3, "left_out": [], "integer_kernels": 3}},
            "untouched": ["head"],
        } | changed.pop("plan", {})
        (self.folder / "quantization.json").write_text(json.dumps(plan))
        binding, opset = changed.pop("binding", True), changed.pop("opset", OPSET)
        provider = changed.pop("provider", "tests.quantize.small_family")
        inputs = {"net.onnx": path, "head.onnx": changed.pop("head", self.folder / "head.onnx")}
        kept = ("quantization.json", "cases.json", "tensors.safetensors")
        inputs |= {name: self.folder / name for name in kept}
        base = ("net.onnx", "head.onnx", "verification.json")
        inputs |= {f"fp32/{name}": self.folder / "fp32" / name for name in base}
        inputs |= changed.pop("base", {})
        form: Mapping[str, Any] = {
            "name": "onnx-int8",
            "mode": "int8",
            "gates": GATES,
            "session": {},
            "integer_kernels": True,
            **changed,
        }
        self.out = self.folder / "out"
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        params = {
            "contract": CONTRACT,
            "opset": opset,
            "format": form,
            "binding": binding,
            "cuda": False,
        }
        return assess.run(
            Step(
                step="small/small/onnx-int8/verify",
                stage="assess",
                modules=("exporters.stages.assess", provider),
                params=params,
                inputs=inputs,
                out=self.out,
                threads=1,
                seed=0,
            )
        )

    def read(self) -> Any:
        """`verification.json` of the latest run, whether it failed or not."""
        return json.loads((self.out / "verification.json").read_text(encoding="utf-8"))

    def _make_head(self) -> ModelProto:
        weight = self._draw(MAP, SIDE * SIDE)
        return _model(
            [helper.make_node("MatMul", ["map", "w"], ["masks"])],
            [_constant(weight, "w")],
            CONTRACT["graphs"][1],
        )


def _net(
    layers: Sequence[tuple[list[NodeProto], list[TensorProto]]], faults: Faults = NO_FAULTS
) -> ModelProto:
    node = helper.make_node
    nodes = [node("Identity", ["x"], ["x0"])]
    constants = [_constant(np.array([CLS, MAP], np.int64), "sizes")]
    for index, (own, weights) in enumerate(layers):
        constants += weights
        nodes += own
        if index + 1 < len(layers):
            # Not Relu: onnxruntime fuses it into a float32 Gemm before it looks for Q and DQ.
            nodes.append(node("Abs", [f"y{index}"], [f"x{index + 1}"]))
    last = f"y{len(layers) - 1}"
    if faults.foreign:
        nodes += [
            node("Cast", [last], ["short"], to=TensorProto.BFLOAT16),
            node("Neg", ["short"], ["turned"]),
            node("Cast", ["turned"], ["long"], to=TensorProto.FLOAT),
            node("Neg", ["long"], ["back"]),
        ]
        last = "back"
    if faults.overflow:
        # Of photographs nothing changes.
        constants += [
            _constant(np.float32(1e3), "large"),
            _constant(np.float32(np.inf), "infinity"),
            _constant(np.float32(0), "nothing"),
            _constant(np.array([1], np.int64), "axis"),
        ]
        nodes += [
            node("Abs", ["x"], ["size"]),
            node("Greater", ["size", "large"], ["too_large"]),
            node("Where", ["too_large", "infinity", "nothing"], ["excess"]),
            node("ReduceSum", ["excess", "axis"], ["sum"], keepdims=1),
            node("Add", [last, "sum"], ["spoiled"]),
        ]
        last = "spoiled"
    nodes.append(node("Split", [last, "sizes"], ["cls_token", "map"], axis=1))
    golden = dict(CONTRACT["graphs"][0])
    golden["outputs"] = [one for one in golden["outputs"] if one["name"] != faults.drop]
    return _model(nodes, constants, golden)


def _model(
    nodes: Sequence[NodeProto], constants: Sequence[TensorProto], golden: Mapping[str, Any]
) -> ModelProto:
    values = {
        kind: [
            helper.make_tensor_value_info(one["name"], TensorProto.FLOAT, one["dims"])
            for one in golden[kind]
        ]
        for kind in ("inputs", "outputs")
    }
    graph = helper.make_graph(nodes, golden["name"], values["inputs"], values["outputs"], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def _constant(values: Any, name: str) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def _save(model: ModelProto, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, path)
