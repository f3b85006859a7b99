"""Fails where the export environment cannot do its work: imports, one operation, one graph.

Run by its own Python after the installation, before anything uses it. What it imports is compiled
to bytecode by that; stages, which write nothing outside of their scratch folder, then find it.
"""

import importlib
import io
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision

IMPORTED = (
    "PIL.Image",
    "dulwich.patch",
    "onnxsim",
    "onnxslim",
    "safetensors.numpy",
    "safetensors.torch",
    "sam2.build_sam",
    "sam2.sam2_image_predictor",
)


class Small(torch.nn.Module):
    """One layer, and an operation that needs the numerical libraries."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(self.layer(picture)).mean(dim=1)


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    if torch.cuda.is_available():
        print("a GPU is visible; the stages of this environment do not use it")
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.1]])
    if len(torchvision.ops.nms(boxes, torch.tensor([1.0, 0.5]), 0.5)) != 1:
        raise SystemExit("torchvision does not match torch")
    torch.manual_seed(0)
    model, picture = Small().eval(), torch.rand(1, 3, 16, 16)
    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (picture,), file, opset_version=18, input_names=["picture"])
        expected = model(picture).numpy()
    onnx.checker.check_model(onnx.load_from_string(file.getvalue()), full_check=True)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"picture": picture.numpy()})
    difference = float(np.abs(found - expected).max())
    if not difference <= 1e-5:
        raise SystemExit(f"ONNX Runtime and PyTorch differ by {difference}")


main()
