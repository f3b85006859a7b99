"""The closed loop finds what no graph by itself can show: how the tracker uses them."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from numpy.typing import NDArray

from exporters.checks.parity import LoopCheck
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
    run = trackers.runtime("tracker-ex").run
    found = trackers.first_fault("tracker-ex", run, _only_loop, pointer_cosine=COSINE)
    assert isinstance(found, LoopCheck)
