"""A family's part that compares what the net says and never runs the head."""

from collections.abc import Iterator, Mapping
from typing import Any

from exporters.checks.parity import Check, compare_tensors
from exporters.checks.reference import Reference, Run


def check(run: Run, contract: Mapping[str, Any], reference: Reference) -> Iterator[Check]:
    """Compares the net's outputs."""
    for picture in reference.document["pictures"]:
        name = picture["name"]
        found = run("net", {"x": reference[f"{name}/x"]})
        for output, value in found.items():
            yield compare_tensors(
                reference[f"{name}/{output}"],
                value,
                graph="net",
                case=name,
                tensor=output,
                bound=float(contract["tolerances"]["parity"]),
                photograph=bool(picture["photograph"]),
            )
