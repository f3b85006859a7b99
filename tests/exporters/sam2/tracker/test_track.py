"""Which prompts a contract takes, and the tracker that its file describes."""

from typing import Any

import numpy as np
import pytest

from exporters.protocol import BAD_INPUT, StageError
from exporters.sam2.tracker.track import check_prompts, open_tracker

CLASSIC, EXTENDED = ({"options": {"extended": extended}} for extended in (False, True))


def test_the_extended_contract_takes_corrections() -> None:
    check_prompts(EXTENDED, [(1, 0), (1, 3), (2, 0)])


def test_the_classic_contract_takes_one_prompt_an_object() -> None:
    check_prompts(CLASSIC, [(1, 3), (2, 0)])
    with pytest.raises(StageError, match="Object 1 is prompted once more on frame 5") as caught:
        check_prompts(CLASSIC, [(1, 5), (2, 0), (1, 3)])
    assert caught.value.exit_code == BAD_INPUT


@pytest.mark.parametrize("extended", [True, False])
def test_frames_are_brought_to_the_size_that_the_contract_has(extended: bool) -> None:
    given: list[tuple[str, tuple[int, ...]]] = []

    def run(graph: str, inputs: Any) -> Any:
        given.extend((graph, value.shape) for value in inputs.values())
        raise KeyError(graph)

    ports = [{"name": "image_encoder", "inputs": [{"name": "image", "dims": [1, 3, 64, 64]}]}]
    contract = {"options": {"extended": extended}, "graphs": ports}
    tracker = open_tracker(contract, run, 2)
    tracker.start_frame(np.zeros((30, 50, 3), np.uint8))
    with pytest.raises(KeyError, match="image_encoder"):
        tracker.prompt(1, [(3, 3, 1)])
    assert given == [("image_encoder", (1, 3, 64, 64))]
