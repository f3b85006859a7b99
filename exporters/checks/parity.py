"""Comparing what a graph computes with what it should: figures with their bounds."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_UNWRITTEN: Final = frozenset({"energy", "photograph", "exact"})


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Sums over all elements, in float64: of these follow signal-to-noise ratio and cosine.

    Attributes:
        reference: Of the expected values' squares.
        found: Of the found values' squares.
        noise: Of the squares of the differences; infinite where there is nothing to compare.
        product: Of expected times found.
    """

    reference: float = 0.0
    found: float = 0.0
    noise: float = 0.0
    product: float = 0.0

    def __add__(self, other: "Energy") -> "Energy":
        return Energy(
            reference=self.reference + other.reference,
            found=self.found + other.found,
            noise=self.noise + other.noise,
            product=self.product + other.product,
        )

    @property
    def snr_db(self) -> float:
        """10 log10 of signal over noise; infinite where nothing differs."""
        if self.noise == 0:
            return float("inf")
        if self.reference == 0 or not np.isfinite(self.noise):
            return float("-inf")
        return float(10 * np.log10(self.reference / self.noise))

    @property
    def cosine(self) -> float:
        """The cosine of the angle between what is expected and what was found.

        1 where nothing differs, -1 where there is no angle.
        """
        if self.noise == 0:
            return 1.0
        lengths = float(np.sqrt(self.reference) * np.sqrt(self.found))
        return self.product / lengths if np.isfinite(self.noise) and lengths else -1.0


@dataclass(frozen=True, kw_only=True)
class TensorCheck:
    """One output of one case. The bound is relative to the expected tensor's own scale.

    Attributes:
        energy: What the quality of a reduced precision is computed from.
        photograph: Whether the case is of a photograph, and so counts for the quality.
        exact: Whether the two had to be equal to the last bit, whatever the precision.
    """

    graph: str
    case: str
    tensor: str
    max_abs_diff: float
    max_abs_reference: float
    relative: float
    bound: float
    ok: bool
    energy: Energy
    photograph: bool = True
    exact: bool = False

    @property
    def finite(self) -> bool:
        """Whether shapes agree and every value found is a number."""
        return bool(np.isfinite(self.energy.noise))

    def describe(self) -> str:
        """Return the figures in words."""
        return (
            f"{self.graph}, {self.case}: {self.tensor} differs by {self.relative:.2e} of its "
            f"scale ({self.max_abs_diff:.2e} of {self.max_abs_reference:.3g}), "
            f"the bound is {self.bound:.0e}"
        )


@dataclass(frozen=True, kw_only=True)
class MaskCheck:
    """One mask, from picture to picture. It counts when its coverage is within the bounds.

    `photograph` is whether its picture is one.
    """

    case: str
    mask: str
    iou: float
    coverage: float
    bound: float
    counted: bool
    ok: bool
    photograph: bool = True

    def describe(self) -> str:
        """Return the figures in words."""
        return (
            f"end to end, {self.case}: {self.mask} agrees at IoU {self.iou:.5f} "
            f"(it covers {self.coverage:.1%}), the bound is {self.bound}"
        )


@dataclass(frozen=True, kw_only=True)
class ScoreCheck:
    """The scores of one case's masks, from picture to scores. The bound is as a tensor's."""

    case: str
    max_abs_diff: float
    mean_abs_diff: float
    relative: float
    bound: float
    ok: bool
    photograph: bool = True

    def describe(self) -> str:
        """Return the figures in words."""
        return (
            f"end to end, {self.case}: the masks' scores differ by {self.relative:.2e} of their "
            f"scale ({self.max_abs_diff:.2e}), the bound is {self.bound:.0e}"
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
        """Return the figures in words."""
        return (
            f"closed loop, object {self.object} on frame {self.frame}: the mask agrees at IoU "
            f"{self.iou:.5f} (it covers {self.coverage:.1%}; the bound is {self.bound}), the "
            f"occlusion logit is {self.occlusion:.4f} for {self.expected_occlusion:.4f}, the "
            f"pointers' cosine {self.pointer_cosine:.6f} (the bound is {self.pointer_bound})"
        )


Check = TensorCheck | MaskCheck | ScoreCheck | LoopCheck


def compare_tensors(
    expected: NDArray[np.float32],
    found: NDArray[np.float32],
    *,
    graph: str,
    case: str,
    tensor: str,
    bound: float,
    photograph: bool = True,
) -> TensorCheck:
    """Compare two float tensors: max |found - expected| against bound x max |expected|.

    A difference in shape, and any value that is not finite, is infinitely far off.
    """
    scale = float(np.abs(expected).max(initial=0.0))
    wanted = expected.astype(np.float64)
    if expected.shape != found.shape or not np.isfinite(found).all():
        difference = float("inf")
        energy = Energy(reference=float(np.square(wanted).sum()), noise=float("inf"))
    else:
        given = found.astype(np.float64)
        distance = given - wanted
        difference = float(np.abs(distance).max(initial=0.0))
        energy = Energy(
            reference=float(np.square(wanted).sum()),
            found=float(np.square(given).sum()),
            noise=float(np.square(distance).sum()),
            product=float((wanted * given).sum()),
        )
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
        energy=energy,
        photograph=photograph,
    )


def compare_scores(
    expected: NDArray[np.float32],
    found: NDArray[np.float32],
    *,
    case: str,
    bound: float,
    photograph: bool = True,
) -> ScoreCheck:
    """Compare the scores that masks were given, float32 [N, masks], as `compare_tensors` does."""
    compared = compare_tensors(
        expected, found, graph="end to end", case=case, tensor="scores", bound=bound
    )
    distance = np.abs(found.astype(np.float64) - expected) if compared.finite else np.inf
    return ScoreCheck(
        case=case,
        max_abs_diff=compared.max_abs_diff,
        mean_abs_diff=float(np.mean(distance)),
        relative=compared.relative,
        bound=bound,
        ok=compared.ok,
        photograph=photograph,
    )


def compare_masks(
    expected: NDArray[np.bool_],
    found: NDArray[np.bool_],
    *,
    case: str,
    mask: str,
    bound: float,
    coverage: tuple[float, float],
    photograph: bool = True,
) -> MaskCheck:
    """Return the intersection over union of two masks bool [H, W]; two empty masks agree fully."""
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
        photograph=photograph,
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
    """Compare what is known of an object on a frame.

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
    """Return the cosine between two vectors; -1 where there is none."""
    a, b = expected.astype(np.float64), found.astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if np.isfinite(lengths) and lengths else -1.0


def as_json(check: Check) -> dict[str, Any]:
    """Return a check as plain data; what is not finite becomes a very large number, for JSON's
    sake.
    """
    return {
        key: as_number(value) if isinstance(value, float) else value
        for key, value in asdict(check).items()
        if key not in _UNWRITTEN
    }


def as_number(value: float) -> float:
    """Return a number that JSON has: what is not finite becomes a very large one."""
    return 1e308 if np.isnan(value) else float(np.clip(value, -1e308, 1e308))
