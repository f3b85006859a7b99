"""What the last check of a target found, in one line."""

from collections.abc import Mapping
from typing import Any

from modelkiln.report.engines import say_built
from modelkiln.report.quality import say_quality

BUILT, VERIFIED = "built", "verified"


def say_status(status: str, summary: Any, benefit: Mapping[str, Any] | None = None) -> str:
    """Return what may be said of a target, in one line that begins with that.

    Args:
        status: `built` or `verified`; nothing else makes a target verified.
        summary: The last check's.
        benefit: What it measured of a reduced precision, where that is known.
    """
    if status == VERIFIED:
        return f"verified: {say_summary(summary, benefit)}"
    # What it says begins with the word.
    if isinstance(summary, Mapping):
        return say_built(summary)
    return f"{BUILT}, not run: {summary}" if summary else f"{BUILT}, not run"


def say_summary(summary: Any, benefit: Mapping[str, Any] | None = None) -> str:
    """Return what a verification found, in one line.

    Args:
        summary: The verification's.
        benefit: What it measured of a reduced precision, where that is known.
    """
    if not isinstance(summary, Mapping):
        return str(summary or "passed")
    if "quality" in summary:
        return say_quality(summary, benefit or {})
    worst = max(summary["worst"].values(), key=lambda one: one["relative"] / one["bound"])
    parts = [
        f"differs from PyTorch by {worst['relative']:.1e} of a tensor's scale at most "
        f"({worst['graph']} {worst['tensor']}; bound {worst['bound']:.0e})"
    ]
    if summary["masks"]:
        parts.append(
            f"{summary['masks_counted']} of {summary['masks']} masks counted, "
            f"lowest IoU {summary['lowest_iou']:.5f}"
        )
    if loop := summary.get("loop"):
        parts.append(
            f"{loop['objects']} objects followed through {loop['frames']} frames, "
            f"{loop['counted']} of {loop['steps']} masks counted, lowest IoU "
            f"{'none' if loop['lowest_iou'] is None else format(loop['lowest_iou'], '.5f')}, "
            f"lowest cosine of a pointer {loop['lowest_pointer_cosine']:.6f}"
        )
    return "; ".join(parts)
