"""A closed loop of two objects through three frames."""

from typing import Any

from modelkiln.report.loop import LoopRow


def step(number: int = 1, frame: int = 0, **changed: Any) -> LoopRow:
    row: Any = {
        "object": number,
        "frame": frame,
        "iou": 0.9995,
        "coverage": 0.1,
        "counted": True,
        "occlusion": 3.0,
        "expected_occlusion": 3.001,
        "pointer_cosine": 0.99999,
    }
    typed: LoopRow = row | changed
    return typed


HIDDEN: Any = {"occlusion": -2.0, "expected_occlusion": -2.0, "coverage": 0.0, "counted": False}
LOOP = [step(frame=n) for n in range(3)] + [step(2, 1), step(2, 2, iou=0.2, **HIDDEN)]
