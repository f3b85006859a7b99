"""Prompts are checked against the picture before a graph runs."""

from pathlib import Path

import pytest
from PIL import Image

from exporters.media.prompts import read_mask, read_prompts
from exporters.protocol import StageError

WIDTH, HEIGHT = 120, 60


def test_the_refusal_of_a_reversed_box_gives_the_right_one() -> None:
    with pytest.raises(StageError) as caught:
        read_prompts({"boxes": [[50, 40, 10, 5]]}, None, HEIGHT, WIDTH)
    assert "--box 10,5,50,40" in caught.value.next


def test_the_whole_picture_is_a_valid_box() -> None:
    (prompt,) = read_prompts({"boxes": [[0, 0, WIDTH, HEIGHT]]}, None, HEIGHT, WIDTH)
    assert prompt.box == (0, 0, WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("size", "value", "reason"),
    [
        ((10, 10), 255, "pixels"),
        ((WIDTH, HEIGHT), 255, "everything"),
        ((WIDTH, HEIGHT), 0, "nothing"),
    ],
)
def test_a_mask_of_another_size_or_of_one_value_is_refused(
    tmp_path: Path, size: tuple[int, int], value: int, reason: str
) -> None:
    path = tmp_path / "mask.png"
    Image.new("L", size, value).save(path)
    with pytest.raises(StageError) as caught:
        read_mask(path, HEIGHT, WIDTH)
    assert caught.value.exit_code == 2
    assert reason in caught.value.what
