"""Comparing what a graph computes with what it should: figures with their bounds."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class TensorCheck:
    """One output of one case. The bound is relative to the expected tensor's own scale."""

    graph: str
    case: str
    tensor: str
    max_abs_diff: float
    max_abs_reference: float
    relative: float
    bound: float
    ok: bool

    def describe(self) -> str:
        """The figures in words."""
        return (
            f"{self.graph}, {self.case}: {self.tensor} differs by {self.relative:.2e} of its "
            f"scale ({self.max_abs_diff:.2e} of {self.max_abs_reference:.3g}), "
            f"the bound is {self.bound:.0e}"
        )


@dataclass(frozen=True, kw_only=True)
class MaskCheck:
    """One mask, from picture to picture. It counts when its coverage is within the bounds."""

    case: str
    mask: str
    iou: float
    coverage: float
    bound: float
    counted: bool
    ok: bool

    def describe(self) -> str:
        """The figures in words."""
        return (
            f"end to end, {self.case}: {self.mask} agrees at IoU {self.iou:.5f} "
            f"(it covers {self.coverage:.1%}), the bound is {self.bound}"
        )


Check = TensorCheck | MaskCheck


def compare_tensors(
    expected: NDArray[np.float32],
    found: NDArray[np.float32],
    *,
    graph: str,
    case: str,
    tensor: str,
    bound: float,
) -> TensorCheck:
    """Compares two float tensors: max |found - expected| against bound x max |expected|.

    A difference in shape, and any value that is not finite, is infinitely far off.
    """
    scale = float(np.abs(expected).max(initial=0.0))
    if expected.shape != found.shape or not np.isfinite(found).all():
        difference = float("inf")
    else:
        difference = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0))
    relative = difference / scale if scale else (0.0 if difference == 0 else float("inf"))
    return TensorCheck(
        graph=graph,
        case=case,
        tensor=tensor,
        max_abs_diff=difference,
        max_abs_reference=scale,
        relative=relative,
        bound=bound,
        ok=bool(np.isfinite(scale)) and relative <= bound,
    )


def compare_masks(
    expected: NDArray[np.bool_],
    found: NDArray[np.bool_],
    *,
    case: str,
    mask: str,
    bound: float,
    coverage: tuple[float, float],
) -> MaskCheck:
    """Intersection over union of two masks bool [H, W]; two empty masks agree fully."""
    share = float(expected.mean())
    union = int(np.logical_or(expected, found).sum())
    iou = int(np.logical_and(expected, found).sum()) / union if union else 1.0
    counted = coverage[0] <= share <= coverage[1]
    return MaskCheck(
        case=case,
        mask=mask,
        iou=iou,
        coverage=share,
        bound=bound,
        counted=counted,
        ok=not counted or iou >= bound,
    )


def as_json(check: Check) -> dict[str, Any]:
    """A check as plain data; infinities become a very large number, which JSON can hold."""
    return {
        key: min(value, 1e308) if isinstance(value, float) else value
        for key, value in asdict(check).items()
    }
