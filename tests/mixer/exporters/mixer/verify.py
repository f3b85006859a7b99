"""The mixer's part of `verify` and `assess`."""

from collections.abc import Iterator, Mapping
from typing import Any

from exporters.checks.parity import Check, compare_tensors
from exporters.checks.reference import Reference, Run


def check(run: Run, contract: Mapping[str, Any], reference: Reference) -> Iterator[Check]:
    """Compares the tokens of every picture."""
    for name in reference.document["pictures"]:
        yield compare_tensors(
            reference[f"{name}/tokens"],
            run("mixer", {"image": reference[f"{name}/image"]})["tokens"],
            graph="mixer",
            case=name,
            tensor="tokens",
            bound=float(contract["tolerances"]["parity"]),
        )
