"""The video that the reference plays is what it says it is."""

import numpy as np
import pytest

from exporters.sam2.tracker.scene import ACTORS, HEIGHT, WIDTH, make_video
from exporters.sam2.tracker.script import make_script
from tests.exporters.shrunken import ROOT, shrink

PICTURES = {name: ROOT / "catalog/pictures" / name for name in shrink("tracker")["pictures"]}


@pytest.mark.parametrize("frames", [8, 32])
def test_the_scene_is_what_it_says(frames: int) -> None:
    def shown(actor: int, frame: int) -> float:
        x0, y0, x1, y1 = ACTORS[actor].box_at(frame / frames)
        width, height = min(x1, WIDTH) - max(x0, 0), min(y1, HEIGHT) - max(y0, 0)
        return max(0.0, width) * max(0.0, height) / ((x1 - x0) * (y1 - y0))

    video = make_video(PICTURES, frames, frames)
    assert video.frames.shape == (frames, HEIGHT, WIDTH, 3)
    assert np.array_equal(video.frames, make_video(PICTURES, frames, frames).frames)
    moves = np.abs(np.diff(video.frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    assert (moves > 0.5).all()
    first = [shown(0, frame) for frame in range(frames)]
    away = [frame for frame, share in enumerate(first) if share == 0]
    assert first[0] == 1 and away and away[-1] < frames - 1
    assert away == list(range(away[0], away[-1] + 1))
    assert shown(1, 0) == 0
    for prompt in make_script(frames):
        for x, y, _ in prompt.points:
            assert 0 <= x < WIDTH and 0 <= y < HEIGHT
        if prompt.box:
            assert prompt.box[0] >= 0 and prompt.box[2] <= WIDTH
            assert shown(1, prompt.frame) == 1
        assert prompt.frame < frames
