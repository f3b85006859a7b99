"""The closed loop finds what no graph by itself can show: how the tracker uses them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.checks.parity import LoopCheck, compare_steps
from exporters.checks.verdict import require_ok, summarize
from exporters.protocol import StageError
from exporters.sam2.tracker import calls, memory, tracker
from tests.exporters.sam2.tracker.models import COSINE, Trackers

Break = Callable[[pytest.MonkeyPatch], None]


def _only_loop(document: dict[str, Any]) -> None:
    for part in ("pictures", "decoder", "memory"):
        document[part] = []
    document["attention"] = []


def _wrap(name: str, change: Callable[[dict[str, Any]], None], graph: str) -> Break:
    """A fault in what the tracker tells a graph."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        original = getattr(calls.Extended, name)

        def broken(self: calls.Extended, *arguments: Any) -> Any:
            run = self._run

            def fed(called: str, feed: Mapping[str, NDArray[Any]]) -> calls.Tensors:
                given = dict(feed)
                if called == graph:
                    change(given)
                return run(called, given)

            self._run = fed
            try:
                return original(self, *arguments)
            finally:
                self._run = run

        patch.setattr(calls.Extended, name, broken)

    return apply


def _scale(name: str, factor: float) -> Callable[[dict[str, Any]], None]:
    def change(feed: dict[str, Any]) -> None:
        feed[name] = (feed[name] * factor).astype(feed[name].dtype)

    return change


def _no_recent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory, "RECENT", 5)


def _fewer_pointers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory, "pointer_reach", lambda _: 7)


def _all_conditioning(patch: pytest.MonkeyPatch) -> None:
    remember = memory.MemoryBank.remember

    def broken(self: memory.MemoryBank, seen: memory.Memory) -> None:
        remember(self, memory.Memory(**{**vars(seen), "conditioning": True}))

    patch.setattr(memory.MemoryBank, "remember", broken)


def _bilinear_frames(patch: pytest.MonkeyPatch) -> None:
    from exporters.media.pictures import preprocess

    patch.setattr(
        tracker, "preprocess_frame", lambda picture, size: preprocess(picture, size, size)
    )


FAULTS: Mapping[str, Break] = {
    "another divisor": _wrap(
        "with_memory", _scale("obj_ptr_positions", 15 / 16), "memory_attention"
    ),
    "times of pointers are reversed": _wrap(
        "with_memory", _scale("obj_ptr_positions", -1), "memory_attention"
    ),
    "no mask to correct": _wrap("decode", _scale("has_mask_input", 0), "mask_decoder"),
    "prompted masks keep their soft edges": _wrap(
        "remember", _scale("is_prompted", 0), "memory_encoder"
    ),
    "everything is remembered as seen": _wrap("remember", _scale("occ_logit", 0), "memory_encoder"),
    "five recent frames": _no_recent,
    "fewer pointers": _fewer_pointers,
    "every frame is a conditioning frame": _all_conditioning,
    "frames are resized bilinearly": _bilinear_frames,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_loop_is_found(
    fault: str, trackers: Trackers, monkeypatch: pytest.MonkeyPatch
) -> None:
    FAULTS[fault](monkeypatch)
    files = trackers.graphs("tracker-ex")
    found = trackers.first_fault("tracker-ex", files, _only_loop, pointer_cosine=COSINE)
    assert isinstance(found, LoopCheck)


def _step(**values: Any) -> LoopCheck:
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


def test_a_step_fails_by_mask_by_sign_and_by_pointer() -> None:
    empty, other = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    other[:4] = True
    assert _step().ok and _step().counted
    assert not _step(found_mask=other).ok
    assert not _step(found_occlusion=-0.001).ok
    assert not _step(found_occlusion=float("nan")).ok
    assert not _step(pointer=np.array([1, 1, 2, 3], np.float32)).ok
    assert not _step(pointer=np.full(4, np.nan, np.float32)).ok
    hidden = _step(mask=empty, found_mask=empty, occlusion=-3.0, found_occlusion=-2.0)
    assert hidden.ok and not hidden.counted and not hidden.seen
    assert not _step(mask=empty, occlusion=-3.0, found_occlusion=-2.0).ok


def test_what_a_loop_must_show() -> None:
    empty = np.zeros((10, 10), bool)
    seen = _step()
    hidden = _step(mask=empty, found_mask=empty, occlusion=-3.0, found_occlusion=-2.0)
    thin = _step(mask=empty, found_mask=empty)
    require_ok([seen, thin, hidden, hidden])
    with pytest.raises(StageError, match="Only 1 of 3 masks could be judged"):
        require_ok([seen, thin, thin, hidden])
    with pytest.raises(StageError, match="object 1 on frame 2"):
        require_ok([_step(found_occlusion=-1.0)])
    summary = summarize([seen, hidden])["loop"]
    assert (summary["steps"], summary["seen"], summary["counted"]) == (2, 1, 1)
    assert "loop" not in summarize([])
