"""The encoder through ModelOpt's own API, with the settings of NVIDIA's example for SAM 2.

Their settings, and their way with pictures, are what bench.quantize measures against: the pictures
come in the order in which the folder lists them, and there is one more than was asked for; all of
them are in memory at once. The preprocessing is ours, so that every side sees the same pixels.

Runs inside the environment `quantize`, and prints one line of JSON:

    python -m bench.sides.quantize_seed GRAPH.onnx PICTURES OUT.onnx COUNT [--threads 2]

    {"runtime": "modelopt 0.47.0", "pictures": ["b.jpg", "a.jpg", ...], "peak_bytes": B}
"""

import argparse
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.sides.quantize_pictures import SIDE, hold_to, read_pictures
from bench.sides.side import peak_bytes


def list_pictures(folder: Path, count: int) -> list[Path]:
    """List COUNT pictures and one, in the order of the folder."""
    names = os.listdir(folder)  # noqa: PTH208 (the example's own order)
    return [folder / name for name in names[: count + 1]]


def settings() -> dict[str, Any]:
    """Return what the example gives to ModelOpt, beside graph, pictures and output."""
    return {
        "quantize_mode": "int8",
        "calibration_method": "max",
        "calibration_eps": ["cpu"],
        "op_types_to_quantize": ["MatMul"],
        "nodes_to_exclude": ["/lm_head", "/Shape"],
        "dq_only": True,
        "use_external_data_format": True,
        "high_precision_dtype": "fp32",
        "mha_accumulation_dtype": "fp32",
        "enable_gemv_detection_for_trt": False,
        "enable_shared_constants_duplication": False,
    }


def read_all(files: list[Path], side: int) -> NDArray[np.float32]:
    """Read all as float32 [N, 3, side, side]."""
    pictures = np.empty((len(files), 3, side, side), dtype=np.float32)
    for index, (_, picture) in enumerate(read_pictures(files, side)):
        pictures[index] = picture[0]
    return pictures


def main() -> None:
    """Read the command line, quantize, print."""
    parser = argparse.ArgumentParser(description="The example's side of bench.quantize.")
    parser.add_argument("graph", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, default=SIDE)
    options = parser.parse_args()
    hold_to(options.threads)

    from modelopt.onnx.quantization import quantize

    files = list_pictures(options.pictures, options.count)
    quantize(
        os.fspath(options.graph),
        calibration_data={"image": read_all(files, options.side)},
        output_path=os.fspath(options.out),
        **settings(),
    )
    told = {
        "runtime": f"modelopt {version('nvidia-modelopt')}",
        "pictures": [path.name for path in files],
        "peak_bytes": peak_bytes(),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
