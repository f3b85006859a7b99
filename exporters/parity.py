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


@dataclass(frozen=True, kw_only=True)
class LoopCheck:
    """One object on one frame of a video that the graphs followed from its start.

    Occlusions are logits: above 0 the object is seen. Where it is not, its mask must be as empty as
    upstream's, and nothing is left to be counted.
    """

    object: int
    frame: int
    iou: float
    coverage: float
    bound: float
    counted: bool
    occlusion: float
    expected_occlusion: float
    pointer_cosine: float
    pointer_bound: float
    ok: bool

    @property
    def seen(self) -> bool:
        """Whether upstream sees the object."""
        return self.expected_occlusion > 0

    def describe(self) -> str:
        """The figures in words."""
        return (
            f"closed loop, object {self.object} on frame {self.frame}: the mask agrees at IoU "
            f"{self.iou:.5f} (it covers {self.coverage:.1%}; the bound is {self.bound}), the "
            f"occlusion logit is {self.occlusion:.4f} for {self.expected_occlusion:.4f}, the "
            f"pointers' cosine {self.pointer_cosine:.6f} (the bound is {self.pointer_bound})"
        )


Check = TensorCheck | MaskCheck | LoopCheck


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
    iou = _overlap(expected, found)
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


def compare_steps(
    expected: tuple[NDArray[np.bool_], float, NDArray[np.float32]],
    found: tuple[NDArray[np.bool_], float, NDArray[np.float32]],
    *,
    number: int,
    frame: int,
    bounds: tuple[float, float],
    coverage: tuple[float, float],
) -> LoopCheck:
    """Compares what is known of an object on a frame.

    Args:
        expected: Its mask bool [H, W], occlusion logit and pointer [C], from upstream.
        found: The same of the graphs.
        number: The object.
        frame: The frame.
        bounds: The least IoU of the masks and the least cosine of the pointers.
        coverage: The shares of the picture between which a mask counts.
    """
    share = float(expected[0].mean())
    iou = _overlap(expected[0], found[0])
    counted = coverage[0] <= share <= coverage[1]
    cosine = _cosine(expected[2], found[2])
    same_sign = (expected[1] > 0) == (found[1] > 0) and bool(np.isfinite(found[1]))
    empty = expected[1] > 0 or not found[0].any()
    return LoopCheck(
        object=number,
        frame=frame,
        iou=iou,
        coverage=share,
        bound=bounds[0],
        counted=counted,
        occlusion=found[1],
        expected_occlusion=expected[1],
        pointer_cosine=cosine,
        pointer_bound=bounds[1],
        ok=same_sign and empty and (not counted or iou >= bounds[0]) and cosine >= bounds[1],
    )


def _overlap(expected: NDArray[np.bool_], found: NDArray[np.bool_]) -> float:
    union = int(np.logical_or(expected, found).sum())
    return int(np.logical_and(expected, found).sum()) / union if union else 1.0


def _cosine(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The cosine between two vectors; -1 where there is none."""
    a, b = expected.astype(np.float64), found.astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if np.isfinite(lengths) and lengths else -1.0


def as_json(check: Check) -> dict[str, Any]:
    """A check as plain data; what is not finite becomes a very large number, for JSON's sake."""
    return {
        key: _finite(value) if isinstance(value, float) else value
        for key, value in asdict(check).items()
    }


def _finite(value: float) -> float:
    return 1e308 if np.isnan(value) else float(np.clip(value, -1e308, 1e308))
