"""What a reduced precision lost, and whether that is within the format's gates.

Figures are pooled over the photographs of the reference, which no calibration sees. Black, white
and noise pictures are there for numbers that overflow; how well they fare is of no interest.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exporters.checks.parity import (
    Check,
    Energy,
    LoopCheck,
    MaskCheck,
    TensorCheck,
    as_json,
    as_number,
)

END_TO_END: Final = "end to end"
CLOSED_LOOP: Final = "closed loop"
SNR, COSINE, MASK_IOU = "snr_db", "cosine", "mask_iou"


@dataclass(frozen=True, kw_only=True)
class OutputQuality:
    """How close one output of one graph is to the reference, over all photographs.

    Attributes:
        cases: How many comparisons of photographs there were.
        energy: Their sums.
        lowest_snr_db: The case that fares worst by its signal-to-noise ratio.
        lowest_cosine: The case that fares worst by its cosine.
        relative: The largest difference of any element, by its tensor's scale.
    """

    graph: str
    tensor: str
    cases: int
    energy: Energy
    lowest_snr_db: float
    lowest_cosine: float
    relative: float

    def describe(self) -> dict[str, Any]:
        """Return plain data; a signal-to-noise ratio is null where nothing differs."""
        return {
            "graph": self.graph,
            "tensor": self.tensor,
            "cases": self.cases,
            "snr_db": decibels(self.energy.snr_db),
            "lowest_snr_db": decibels(self.lowest_snr_db),
            "cosine": self.energy.cosine,
            "lowest_cosine": self.lowest_cosine,
            "relative": as_number(self.relative),
        }


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One figure against the least that a format allows.

    Attributes:
        name: snr_db, cosine or mask_iou.
        runtime: Where it was measured: cpu or cuda.
        graph: The graph, or "end to end", or "closed loop".
        tensor: The output, or the mask that fares worst.
    """

    name: str
    runtime: str
    graph: str
    tensor: str
    value: float
    bound: float

    @property
    def ok(self) -> bool:
        """Whether the figure is at least the bound."""
        return self.value >= self.bound

    def describe(self) -> dict[str, Any]:
        """Return plain data; a signal-to-noise ratio is null where nothing differs."""
        value = decibels(self.value) if self.name == SNR else self.value
        return {
            "name": self.name,
            "runtime": self.runtime,
            "graph": self.graph,
            "tensor": self.tensor,
            "value": value,
            "bound": self.bound,
            "ok": self.ok,
        }

    def say(self) -> str:
        """Return the figures in words."""
        where = "" if self.runtime == "cpu" else f" on {self.runtime}"
        value = _FORMATS[self.name].format(self.value)
        return (
            f"{_NAMES[self.name]} of {self.graph} {self.tensor}{where} is {value}, "
            f"the gate {self.name} asks for {self.bound:g}"
        )


_NAMES: Final = {SNR: "the SNR", COSINE: "the cosine", MASK_IOU: "the mask IoU"}
_FORMATS: Final = {SNR: "{:.2f} dB", COSINE: "{:.6f}", MASK_IOU: "{:.5f}"}


def decibels(value: float) -> float | None:
    """Return a ratio for JSON: None where it is infinite, because nothing differs."""
    return None if value == math.inf else round(as_number(value), 4)


def pool(checks: Iterable[Check]) -> list[OutputQuality]:
    """Return the quality of every output that was compared on photographs, in the order of the
    checks.
    """
    groups: dict[tuple[str, str], list[TensorCheck]] = {}
    for check in checks:
        if isinstance(check, TensorCheck) and check.photograph and not check.exact:
            groups.setdefault((check.graph, check.tensor), []).append(check)
    return [
        OutputQuality(
            graph=graph,
            tensor=tensor,
            cases=len(group),
            energy=sum((one.energy for one in group), Energy()),
            lowest_snr_db=min(one.energy.snr_db for one in group),
            lowest_cosine=min(one.energy.cosine for one in group),
            relative=max(one.relative for one in group),
        )
        for (graph, tensor), group in groups.items()
    ]


def judge(
    gates: Mapping[str, Any],
    outputs: Sequence[OutputQuality],
    checks: Iterable[Check],
    runtime: str,
) -> list[Gate]:
    """Hold a format's gates against what was measured in one runtime.

    The signal-to-noise ratio is that of an output over all photographs; a cosine, of the outputs
    that the gate names, that of the photograph which fares worst; a mask's overlap that of the
    worst mask that counts, each for the graphs end to end and for the closed loop.

    Args:
        gates: `snr_db`, `mask_iou` and `cosine`, a table of outputs; any may be missing.
        outputs: What `pool` says.
        checks: All comparisons.
        runtime: Where they were made.
    """
    return [*_judge_outputs(gates, outputs, runtime), *_judge_masks(gates, checks, runtime)]


def _judge_outputs(
    gates: Mapping[str, Any], outputs: Sequence[OutputQuality], runtime: str
) -> Iterator[Gate]:
    cosines: Mapping[str, float] = gates.get(COSINE, {})
    for one in outputs:
        if SNR in gates:
            yield Gate(
                name=SNR,
                runtime=runtime,
                graph=one.graph,
                tensor=one.tensor,
                value=one.energy.snr_db,
                bound=float(gates[SNR]),
            )
        if one.tensor in cosines:
            yield Gate(
                name=COSINE,
                runtime=runtime,
                graph=one.graph,
                tensor=one.tensor,
                value=one.lowest_cosine,
                bound=float(cosines[one.tensor]),
            )


def _judge_masks(gates: Mapping[str, Any], checks: Iterable[Check], runtime: str) -> Iterator[Gate]:
    if MASK_IOU not in gates:
        return
    masks: dict[str, list[tuple[float, str]]] = {}
    for check in checks:
        if isinstance(check, MaskCheck) and check.counted and check.photograph:
            masks.setdefault(END_TO_END, []).append((check.iou, f"{check.case}, {check.mask}"))
        elif isinstance(check, LoopCheck) and check.counted:
            step = f"object {check.object} on frame {check.frame}"
            masks.setdefault(CLOSED_LOOP, []).append((check.iou, step))
    for graph, found in masks.items():
        value, worst = min(found, key=lambda one: one[0])
        yield Gate(
            name=MASK_IOU,
            runtime=runtime,
            graph=graph,
            tensor=worst,
            value=value,
            bound=float(gates[MASK_IOU]),
        )


def describe_check(check: Check, mask_iou: float) -> dict[str, Any]:
    """Return a check as plain data, with the figures of its quality in place of parity's bound.

    Args:
        check: The comparison.
        mask_iou: The gate of masks, 0 where the format has none.
    """
    row = as_json(check)
    if isinstance(check, TensorCheck):
        del row["bound"]
        return {
            **row,
            "photograph": check.photograph,
            "ok": check.finite and (check.ok or not check.exact),
            "snr_db": decibels(check.energy.snr_db),
            "cosine": check.energy.cosine,
        }
    if isinstance(check, MaskCheck | LoopCheck):
        row |= {"bound": mask_iou, "ok": not check.counted or check.iou >= mask_iou}
        if isinstance(check, LoopCheck):
            del row["pointer_bound"]
            return row
    else:
        del row["bound"], row["ok"]
    return {**row, "photograph": check.photograph}
