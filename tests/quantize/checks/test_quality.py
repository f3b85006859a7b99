"""The gates of a format."""

import pytest

from exporters.checks.parity import LoopCheck
from exporters.checks.quality import CLOSED_LOOP, judge


@pytest.mark.parametrize("iou", [0.97, 0.99])
def test_the_closed_loop_has_a_gate(iou: float) -> None:
    steps = [
        LoopCheck(
            object=1,
            frame=frame,
            iou=one,
            coverage=0.2,
            bound=0.999,
            counted=True,
            occlusion=5.0,
            expected_occlusion=5.0,
            pointer_cosine=1.0,
            pointer_bound=0.9,
            ok=False,
        )
        for frame, one in enumerate((1.0, iou))
    ]
    (gate,) = judge({"mask_iou": 0.98}, [], steps, "cpu")
    assert (gate.graph, gate.value, gate.ok) == (CLOSED_LOOP, iou, iou > 0.98)
