"""The stage `reference`: what unpatched upstream computes, for `verify` to compare with.

No patch is on this stage's path, and the installed package's files are those of its pinned wheel.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from exporters.protocol import Result, Step, report_progress, write_json
from exporters.upstream import check_upstream

_PICTURES: Final = "pictures/"


def run(step: Step) -> Result:
    """Run upstream's own predictor on pictures and prompts; write what went in and came out.

    Parameters: `upstream`; the rest goes to the family's part, whose
    `compute(params, weights, pictures, seed)` returns a JSON document and arrays by name. What
    the document calls `counts` goes among the metrics.

    Outputs: `cases.json`, and `tensors.safetensors` with the arrays that it names.

    Raises:
        StageError: Upstream's files are not the pinned ones, or a picture cannot be read.
    """
    installed = check_upstream(step.param("upstream"))
    torch.set_num_threads(step.threads)
    report_progress(0.0, "building the unpatched model")
    pictures = {
        name.removeprefix(_PICTURES): path
        for name, path in sorted(step.inputs.items())
        if name.startswith(_PICTURES)
    }
    document: Mapping[str, Any]
    tensors: Mapping[str, NDArray[Any]]
    with torch.no_grad():
        document, tensors = step.provider().compute(
            step.params, step.input("weights.safetensors"), pictures, step.seed
        )
    _require_origin(installed, step.param("upstream")["package"])
    save_file(dict(tensors), step.out / "tensors.safetensors")
    write_json(step.out / "cases.json", document)
    return Result(
        outputs=["cases.json", "tensors.safetensors"],
        metrics={
            "tensors": len(tensors),
            "bytes": (step.out / "tensors.safetensors").stat().st_size,
            **_count(document),
        },
    )


def _count(document: Mapping[str, Any]) -> Mapping[str, int]:
    """Return how many pictures and cases there are: what the family says, or its
    pictures' prompts.
    """
    if "counts" in document:
        counts: Mapping[str, int] = document["counts"]
        return counts
    pictures = document["pictures"]
    return {
        "pictures": len(pictures),
        "cases": sum(len(picture["prompts"]) for picture in pictures),
    }


def _require_origin(installed: Path, package: str) -> None:
    """Assert that every module of upstream came from the installed package."""
    root = installed.resolve()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] != package or not file:
            continue
        if not Path(file).resolve().is_relative_to(root):
            raise AssertionError(f"{name} was loaded from {file}, not from {root}")
