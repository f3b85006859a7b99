"""SqueezeNet's part of `verify`."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from exporters.checks.parity import Check, compare_tensors
from exporters.checks.reference import Reference, Run


def check(run: Run, contract: Mapping[str, Any], reference: Reference) -> Iterator[Check]:
    """Compares the scores of all pictures, in one batch."""
    names = reference.document["pictures"]
    images = np.concatenate([reference[f"{name}/image"] for name in names])
    found = run("classifier", {"image": images})["scores"]
    for index, name in enumerate(names):
        yield compare_tensors(
            reference[f"{name}/scores"],
            found[index : index + 1],
            graph="classifier",
            case=name,
            tensor="scores",
            bound=float(contract["tolerances"]["parity"]),
        )
