"""Whether what was compared passes: figures for reports, and the error that says what failed."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from exporters.checks.parity import (
    Check,
    LoopCheck,
    MaskCheck,
    ScoreCheck,
    TensorCheck,
    as_json,
    as_number,
)
from exporters.protocol import NOT_VERIFIED, StageError

_COUNTED: Final = 0.5
_NEXT: Final = (
    "Read verification.json in the step's scratch folder; a patch, an exporter or the simplifier "
    "changed what the model computes (try --simplifier none)."
)


def summarize(checks: Iterable[Check]) -> dict[str, Any]:
    """Return the worst figure of every output, and how masks, scores and the steps of a loop
    fared.
    """
    worst: dict[str, TensorCheck] = {}
    rest: list[Check] = []
    for check in checks:
        if isinstance(check, TensorCheck):
            name = f"{check.graph}/{check.tensor}"
            if name not in worst or check.relative > worst[name].relative:
                worst[name] = check
        else:
            rest.append(check)
    return {
        "worst": {name: as_json(check) for name, check in sorted(worst.items())},
        **summarize_together(rest),
    }


def summarize_together(checks: Sequence[Check]) -> dict[str, Any]:
    """Return how the graphs fared together: masks, and where there are any scores and steps of a
    loop.
    """
    masks = [check for check in checks if isinstance(check, MaskCheck)]
    scores = [check for check in checks if isinstance(check, ScoreCheck)]
    steps = [check for check in checks if isinstance(check, LoopCheck)]
    counted = [mask for mask in masks if mask.counted]
    summary: dict[str, Any] = {
        "masks": len(masks),
        "masks_counted": len(counted),
        "lowest_iou": min((mask.iou for mask in counted), default=None),
    }
    if scores:
        summary["scores"] = {
            "cases": len(scores),
            "max_abs_diff": as_number(max(score.max_abs_diff for score in scores)),
            "mean_abs_diff": as_number(float(np.mean([one.mean_abs_diff for one in scores]))),
            "relative": as_number(max(score.relative for score in scores)),
        }
    if steps:
        summary["loop"] = _summarize_loop(steps)
    return summary


def _summarize_loop(steps: Sequence[LoopCheck]) -> dict[str, Any]:
    return {
        "steps": len(steps),
        "frames": len({step.frame for step in steps}),
        "objects": len({step.object for step in steps}),
        "seen": sum(step.seen for step in steps),
        "counted": sum(step.counted for step in steps),
        "lowest_iou": min((step.iou for step in steps if step.counted), default=None),
        "lowest_pointer_cosine": min(step.pointer_cosine for step in steps),
    }


def require_ok(checks: Sequence[Check]) -> None:
    """Raise on the worst check that failed, and when too little could be judged.

    Half of all masks must count; in a loop, half of those whose object is seen.

    Raises:
        StageError: With exit code 6.
    """
    require_some(checks)
    tensors = [check for check in checks if isinstance(check, TensorCheck) and not check.ok]
    masks = [check for check in checks if isinstance(check, MaskCheck) and not check.ok]
    scores = [check for check in checks if isinstance(check, ScoreCheck) and not check.ok]
    steps = [check for check in checks if isinstance(check, LoopCheck) and not check.ok]
    failed: list[Check] = [
        *sorted(tensors, key=lambda check: -check.relative),
        *sorted(masks, key=lambda check: check.iou),
        *sorted(scores, key=lambda check: -check.relative),
        *sorted(steps, key=lambda check: (check.frame, check.object)),
    ]
    if failed:
        raise not_verified(
            f"{len(failed)} of {len(checks)} comparisons with unpatched PyTorch failed.",
            f"The worst: {'; '.join(check.describe() for check in failed[:3])}.",
        )
    require_counted(checks)


def require_some(checks: Sequence[Check]) -> None:
    """Raise where nothing was compared.

    Raises:
        StageError: With exit code 6.
    """
    if not checks:
        raise not_verified(
            "Nothing was compared.", "The reference has no case that this contract takes."
        )


def require_counted(checks: Sequence[Check]) -> None:
    """Raise where fewer than half of the masks can be judged.

    Raises:
        StageError: With exit code 6.
    """
    _require_counted([check for check in checks if isinstance(check, MaskCheck)])
    _require_counted([check for check in checks if isinstance(check, LoopCheck) and check.seen])


def _require_counted(masks: Sequence[MaskCheck | LoopCheck]) -> None:
    counted = sum(mask.counted for mask in masks)
    if counted < _COUNTED * len(masks):
        raise not_verified(
            f"Only {counted} of {len(masks)} masks could be judged.",
            "The others cover almost nothing or almost everything of their pictures.",
        )


def not_verified(what: str, why: str, then: str = _NEXT) -> StageError:
    """Return a verification that failed: exit code 6."""
    return StageError(what, why, then, exit_code=NOT_VERIFIED)
