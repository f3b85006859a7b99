"""The feature contracts' part of `verify`: all outputs on every picture, alone and in a batch."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from exporters.checks.parity import Check, compare_tensors
from exporters.checks.reference import Reference, Run
from exporters.media.pictures import normalize
from exporters.protocol import report_progress


def check(run: Run, contract: Mapping[str, Any], reference: Reference) -> Iterator[Check]:
    """Compare every output that the contract has with unpatched PyTorch's.

    Each picture goes in alone; then the photographs go in once more, as one batch.
    """
    (golden,) = contract["graphs"]
    (image,) = (value["name"] for value in golden["inputs"])
    pictures = reference.document["pictures"]
    photographs = [picture["name"] for picture in pictures if picture["photograph"]]
    groups = [[picture["name"]] for picture in pictures] + [photographs]
    for done, group in enumerate(groups):
        report_progress(0.15 + 0.85 * done / len(groups), f"comparing {', '.join(group)}")
        images = [normalize(reference[f"{name}/picture"]) for name in group]
        found = run(golden["name"], {image: np.concatenate(images)})
        for index, name in enumerate(group):
            for output in (value["name"] for value in golden["outputs"]):
                yield compare_tensors(
                    reference[f"{name}/{output}"],
                    found[output][index : index + 1],
                    graph=golden["name"],
                    case=name + (f" in a batch of {len(group)}" if len(group) > 1 else ""),
                    tensor=output,
                    bound=float(contract["tolerances"]["parity"]),
                    photograph=name in photographs,
                )
