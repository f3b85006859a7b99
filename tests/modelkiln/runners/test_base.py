"""What every runner reads from a stage, and what it says of one that takes too long."""

from pathlib import Path

import pytest

from modelkiln.runners.base import overdue_failure, read_progress
from tests.jobs import make_job


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"progress": 0.5, "message": "half"}', [(0.5, "half")]),
        (b'{"progress": 1}', [(1.0, "")]),
        (b'{"progress": null, "message": "who knows"}', [(None, "who knows")]),
        (b'{"message": "no share"}', [(None, "no share")]),
        # What a stage prints besides is not its progress.
        (b"loading weights", []),
        (b"[0.5]", []),
        (b"3", []),
        (b'{"progress": "soon"}', []),
        (b'{"progress": [1]}', []),
        (b"\xff\n", []),
    ],
)
def test_only_news_are_told(line: bytes, told: list[tuple[float | None, str]]) -> None:
    seen: list[tuple[float | None, str]] = []
    read_progress(line, lambda share, text: seen.append((share, text)))
    assert seen == told


def test_a_stage_that_is_overdue_is_named_with_its_time(tmp_path: Path) -> None:
    error = overdue_failure(make_job(tmp_path, "pass", timeout_s=7))
    assert error.what == "toy/stage: the stage took longer than 7 s and was ended."
    assert "stages.toml" in error.next
