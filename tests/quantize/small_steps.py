"""Calls the stages `calibrate` and `quantize` on a small network."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from exporters.graphs.sessions import run_kernels
from exporters.protocol import Result, Step
from exporters.stages import calibrate, quantize
from tests.quantize.small_nets import GOLDEN, make_picture

PREPROCESSING = {"resize": "bilinear with antialiasing, squashed to a square"}


def run_calibrate(
    folder: Path, encoder: Path, pictures: Sequence[Path], **params: Any
) -> dict[str, Any]:
    """Runs `calibrate`; returns its document."""
    names = {f"calibration/{index:05}-{path.name}": path for index, path in enumerate(pictures)}
    step = make_step(
        folder,
        "calibrate",
        {
            "graphs": [GOLDEN],
            "quantized": ["encoder"],
            "op_types": ["MatMul"],
            "observe": "inputs",
            "calib_method": "max",
            "calib_size": len(pictures),
            "use_random_calib": False,
            "calibration_eps": ["cpu"],
            "preprocessing": PREPROCESSING,
            "options": {},
            "pictures": list(names),
            **params,
        },
        {"encoder.onnx": encoder, **names},
    )
    calibrate.run(step)
    document: dict[str, Any] = json.loads((step.out / "calibration.json").read_text())
    return document


def run_quantize(
    folder: Path, encoder: Path, calibration: Mapping[str, Any] | None, **params: Any
) -> tuple[Path, dict[str, Any], Result]:
    """Runs `quantize`; returns the graph, `quantization.json` and the result."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {"encoder.onnx": encoder}
    if calibration is not None:
        inputs["calibration.json"] = folder / "calibration.json"
        inputs["calibration.json"].write_text(json.dumps(calibration))
    step = make_step(
        folder,
        "quantize",
        {
            "mode": "int8",
            "layout": "onnxruntime",
            "graphs": [GOLDEN],
            "quantized": ["encoder"],
            "op_types": ["MatMul"],
            "qdq_for_weights": False,
            "dtype": "fp32",
            "opset": 18,
            "metadata": {"modelkiln.model": "small"},
            **params,
        },
        inputs,
    )
    result = quantize.run(step)
    document = json.loads((step.out / "quantization.json").read_text())
    return step.out / "encoder.onnx", document, result


def make_step(
    folder: Path, stage: str, params: Mapping[str, Any], inputs: Mapping[str, Path]
) -> Step:
    """A step whose outputs go to FOLDER/STAGE/out."""
    out = folder / stage / "out"
    out.mkdir(parents=True)
    return Step(
        step=f"small/{stage}",
        stage=stage,
        modules=(f"exporters.stages.{stage}",),
        params=params,
        inputs=inputs,
        out=out,
        threads=1,
        seed=0,
    )


# Processors without VNNI add 8-bit products in 16 bits, which overflows; asked for precision, ONNX
# Runtime has them add in 32 bits, as all others do (onnxruntime_session_options_config_keys.h).
PRECISE = ("session.x64quantprecision", "1")
OVERFLOWS = "vnni" not in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")


def open_session(path: Path, **config: str) -> Any:
    """onnxruntime's session on the CPU; `config` with underscores for dots."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*PRECISE)
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    for key, value in config.items():
        options.add_session_config_entry(key.replace("__", "."), value)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_graph(path: Path, picture: NDArray[np.float32], **config: str) -> NDArray[np.float32]:
    """The output of a graph on a picture."""
    (tokens,) = open_session(path, **config).run(None, {"image": picture})
    return np.asarray(tokens)


def relative_error(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Relative L2 error."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def count_kernels(path: Path) -> Counter[str]:
    """The kernels that ran on a picture, with default session options."""
    return Counter(kind for kind, _ in run_kernels(path, 1, {"image": make_picture(1)}))
