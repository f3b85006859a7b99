"""Comparisons as verifications make them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.checks.parity import (
    LoopCheck,
    MaskCheck,
    TensorCheck,
    compare_masks,
    compare_steps,
    compare_tensors,
)


def made_tensors(expected: NDArray[Any], found: NDArray[Any], bound: float = 1e-5) -> TensorCheck:
    return compare_tensors(
        expected.astype(np.float32),
        found.astype(np.float32),
        graph="decoder",
        case="noise/one point",
        tensor="masks",
        bound=bound,
    )


def made_masks(expected: NDArray[Any], found: NDArray[Any]) -> MaskCheck:
    return compare_masks(
        expected, found, case="noise/a box", mask="mask 1", bound=0.999, coverage=(0.02, 0.98)
    )


def made_step(**values: Any) -> LoopCheck:
    half = np.zeros((10, 10), bool)
    half[:5] = True
    pointer = np.arange(4, dtype=np.float32)
    given: dict[str, Any] = {
        "mask": half,
        "found_mask": half,
        "occlusion": 1.0,
        "found_occlusion": 1.0,
        "pointer": pointer,
        **values,
    }
    return compare_steps(
        (given["mask"], given["occlusion"], pointer),
        (given["found_mask"], given["found_occlusion"], given["pointer"]),
        number=1,
        frame=2,
        bounds=(0.999, 0.9999),
        coverage=(0.02, 0.98),
    )
