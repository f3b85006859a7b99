"""What passes, and the error that says what does not."""

import numpy as np
import pytest

from exporters.checks.verdict import require_ok, summarize
from exporters.protocol import StageError
from tests.exporters.checks.made import made_masks, made_step, made_tensors


def test_the_worst_is_named() -> None:
    good, bad = made_tensors(np.ones(2), np.ones(2)), made_tensors(np.ones(2), np.array([1, 1.5]))
    with pytest.raises(StageError) as failure:
        require_ok([good, bad])
    assert failure.value.exit_code == 6
    assert "decoder, noise/one point: masks differs by 5.00e-01" in failure.value.why


def test_too_few_masks_fail() -> None:
    half = np.zeros((10, 10), bool)
    half[:5] = True
    empty = np.zeros((10, 10), bool)
    counted, idle = made_masks(half, half), made_masks(empty, empty)
    require_ok([counted, idle])
    with pytest.raises(StageError, match="Only 1 of 3 masks could be judged"):
        require_ok([counted, idle, idle])
    with pytest.raises(StageError, match="Nothing was compared"):
        require_ok([])
    assert summarize([counted, idle])["masks_counted"] == 1


def test_what_a_loop_must_show() -> None:
    empty = np.zeros((10, 10), bool)
    seen = made_step()
    hidden = made_step(mask=empty, found_mask=empty, occlusion=-3.0, found_occlusion=-2.0)
    thin = made_step(mask=empty, found_mask=empty)
    require_ok([seen, thin, hidden, hidden])
    with pytest.raises(StageError, match="Only 1 of 3 masks could be judged"):
        require_ok([seen, thin, thin, hidden])
    with pytest.raises(StageError, match="object 1 on frame 2"):
        require_ok([made_step(found_occlusion=-1.0)])
    summary = summarize([seen, hidden])["loop"]
    assert (summary["steps"], summary["seen"], summary["counted"]) == (2, 1, 1)
    assert "loop" not in summarize([])
