"""SAM 2's part of the stage `track`: the tracker on a contract's graphs."""

from collections.abc import Mapping, Sequence
from typing import Any

from exporters.sam2.tracker.calls import Run
from exporters.sam2.tracker.slots import is_static, serve_slots
from exporters.sam2.tracker.tracker import Tracker, one_prompt_only


def check_prompts(contract: Mapping[str, Any], prompts: Sequence[tuple[int, int]]) -> None:
    """Refuse prompts that a contract's graphs cannot take.

    Args:
        contract: The golden contract of a tracker.
        prompts: The object's number and the frame of each prompt.

    Raises:
        StageError: An object has more than one, and the contract is a classic one (exit code 2).
    """
    if contract["options"]["extended"]:
        return
    known: set[int] = set()
    for number, frame in sorted(prompts, key=lambda prompt: prompt[1]):
        if number in known:
            raise one_prompt_only(number, frame)
        known.add(number)


def open_tracker(contract: Mapping[str, Any], run: Run, num_frames: int | None) -> Tracker:
    """Return the tracker for one video.

    Args:
        contract: The golden contract of a tracker.
        run: Runs one of its graphs.
        num_frames: Frames in the whole video; None in a live stream.
    """
    graphs = {graph["name"]: graph for graph in contract["graphs"]}
    return Tracker(
        serve_slots(run) if is_static(contract) else run,
        extended=bool(contract["options"]["extended"]),
        size=int(graphs["image_encoder"]["inputs"][0]["dims"][-1]),
        num_frames=num_frames,
    )
