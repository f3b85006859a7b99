"""DINOv2 as `torch.onnx.export` gives it: what bench.dinov2 measures against.

timm's network goes into the exporter as it is, at its native size, with the options that the
exporter's documentation shows; nothing looks at the graph afterwards.

Runs inside the export environment, and prints one line of JSON:

    python -m bench.sides.plain_features SETTINGS WEIGHTS.safetensors OUT.onnx [--opset 18]

    {"bytes": B}

SETTINGS are the model's of the catalog, as JSON.
"""

import argparse
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from exporters.dinov2.model import load_model


def write_graph(settings: Mapping[str, Any], weights: Path, path: Path, opset: int) -> None:
    """Trace timm's network, without a classifier and its pooling: `image` to `tokens`."""
    vit: Any = load_model(settings, weights)
    vit.reset_classifier(0, "")
    side = int(settings["native"])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            vit.eval(),
            (torch.zeros(1, 3, side, side),),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=["image"],
            output_names=["tokens"],
            dynamic_axes={"image": {0: "batch"}, "tokens": {0: "batch"}},
        )


def main() -> None:
    """Read the command line, write the graph, print what is in it."""
    parser = argparse.ArgumentParser(description="The reference graph of bench.dinov2.")
    parser.add_argument("settings", type=json.loads)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--opset", type=int, default=18)
    options = parser.parse_args()
    write_graph(options.settings, options.weights, options.out, options.opset)
    print(json.dumps({"bytes": options.out.stat().st_size}))


if __name__ == "__main__":
    main()
