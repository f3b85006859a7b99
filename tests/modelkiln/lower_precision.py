"""Targets of lower precision, and a machine with or without a GPU."""

from collections.abc import Callable, Mapping
from pathlib import Path

from modelkiln.building.kiln import Kiln
from modelkiln.planning.graph import Step

MakeKiln = Callable[..., Kiln]
MODEL = "sam2.1_hiera_tiny"
NAME = f"{MODEL}+random0"
HALF = f"{MODEL}/image/onnx-fp16"
INT8, FP8 = f"{MODEL}/image/onnx-int8", f"{MODEL}/image/onnx-fp8"
CALIBRATE = f"{NAME}/image/calibrate@calib16.cpu.graphs-encoder.max.ops-MatMul"


def see_gpu(kiln: Kiln, found: bool) -> Kiln:
    kiln.__dict__["gpu"] = "a GPU, 1" if found else ""
    return kiln


Steps = Callable[..., Mapping[str, Step]]


def own(pictures: Path) -> dict[str, str]:
    return {"image_dir": str(pictures), "image_file_extension": "png", "calib_size": "2"}
