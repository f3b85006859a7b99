"""The family's part of `assess` for the contract of `assess_case`."""

from collections.abc import Iterator, Mapping
from typing import Any

from exporters.checks.parity import Check, compare_masks, compare_tensors
from exporters.checks.reference import Reference, Run


def check(run: Run, contract: Mapping[str, Any], reference: Reference) -> Iterator[Check]:
    """Compares the net's outputs, and the masks that the head makes of them."""
    bound = float(contract["tolerances"]["parity"])
    for picture in reference.document["pictures"]:
        name, photograph = picture["name"], bool(picture["photograph"])
        found = run("net", {"x": reference[f"{name}/x"]})
        for output in ("cls_token", "map"):
            yield compare_tensors(
                reference[f"{name}/{output}"],
                found[output],
                graph="net",
                case=name,
                tensor=output,
                bound=bound,
                photograph=photograph,
            )
        masks = run("head", {"map": found["map"]})["masks"] > 0
        for number, wanted in enumerate(reference[f"{name}/inside"]):
            yield compare_masks(
                wanted,
                masks[number],
                case=name,
                mask=f"row {number}",
                bound=0.999,
                coverage=(0.02, 0.98),
                photograph=photograph,
            )
