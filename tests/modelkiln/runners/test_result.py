"""What is taken from a stage: its outputs, or its error; nothing that it could have faked."""

import json
import os
from pathlib import Path

import pytest

from modelkiln.errors import (
    EnvironmentFailure,
    KilnError,
    OutOfSpace,
    StageFailure,
    UsageError,
    VerificationFailure,
)
from modelkiln.runners import result
from modelkiln.runners.job import Job
from modelkiln.runners.result import collect, failure, read_log
from tests.jobs import make_job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path, "pass")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """What a stage leaves that wrote one output."""
    folder = tmp_path / "scratch"
    (folder / "out" / "deep").mkdir(parents=True)
    (folder / "out" / "deep" / "a").write_text("a")
    leave(folder)
    return folder


def leave(folder: Path, **changed: object) -> None:
    told = {"outputs": ["deep/a"], "metrics": {"answer": 42}, "modules": ["exporters.stage"]}
    (folder / "result.json").write_text(json.dumps({**told, **changed}))


def test_what_the_result_names_is_taken(job: Job, scratch: Path) -> None:
    assert collect(job, scratch) == ({"deep/a": scratch / "out" / "deep" / "a"}, {"answer": 42})


@pytest.mark.parametrize(
    "changed",
    [
        {"outputs": None},
        {"outputs": ["../result.json"]},
        {"outputs": ["/etc/passwd"]},
        {"metrics": 3},
        {"modules": None},
    ],
)
def test_a_malformed_result_is_none(job: Job, scratch: Path, changed: dict[str, object]) -> None:
    leave(scratch, **changed)
    with pytest.raises(StageFailure, match="without a result"):
        collect(job, scratch)


def test_a_module_that_no_key_covers_is_told(job: Job, scratch: Path) -> None:
    leave(scratch, modules=["exporters", "exporters.stage", "exporters.secret"])
    with pytest.raises(StageFailure, match="its key does not cover") as caught:
        collect(job, scratch)
    assert caught.value.why == "exporters.secret"


def test_outputs_and_names_have_to_agree(job: Job, scratch: Path) -> None:
    (scratch / "out" / "more").symlink_to("/etc/passwd")
    leave(scratch, outputs=["deep/a", "gone"])
    with pytest.raises(StageFailure) as caught:
        collect(job, scratch)
    assert caught.value.why == "Missing: gone; not named: more."


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (2, UsageError),
        (4, EnvironmentFailure),
        (6, VerificationFailure),
        (9, OutOfSpace),
        # A stage cannot say that the user stopped it, or that the store is damaged.
        (130, StageFailure),
        (8, StageFailure),
        (77, StageFailure),
    ],
)
def test_a_stages_own_error_keeps_its_kind(
    job: Job, scratch: Path, code: int, kind: type[KilnError]
) -> None:
    told = {"what": "it broke", "why": "old age", "next": "mend it", "exit_code": code}
    (scratch / "error.json").write_text(json.dumps(told))
    error = failure(job, scratch, 1, "")
    assert type(error) is kind
    assert (error.what, error.why, error.next) == (
        "toy/stage failed. it broke",
        "old age",
        "mend it",
    )


@pytest.mark.parametrize(
    ("status", "log", "kind", "said"),
    [
        (-9, "", OutOfSpace, "memory ran out"),
        (1, "MemoryError", OutOfSpace, "memory ran out"),
        (-6, "terminate: std::bad_alloc", OutOfSpace, "memory ran out"),
        (1, "OSError: No space left on device", OutOfSpace, "the disk is full"),
        (-11, "", StageFailure, "signal 11"),
        (3, "", StageFailure, "It said nothing."),
        (3, "\n".join(map(str, range(100))), StageFailure, "\n    99"),
    ],
)
def test_a_stage_that_says_nothing_itself_is_judged_by_how_it_ended(
    job: Job, scratch: Path, status: int, log: str, kind: type[KilnError], said: str
) -> None:
    error = failure(job, scratch, status, log)
    assert type(error) is kind
    assert said in str(error)
    assert "\n    87\n" not in str(error), "only the last lines are shown"


def test_a_full_disk_is_known_without_a_log(
    job: Job, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result, "ALMOST_FULL", 1 << 62)
    assert "the disk is full" in failure(job, scratch, 1, "").what


def test_only_the_end_of_a_plain_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\xff" + b"x" * 10 + b"end")
    assert read_log(log, 3) == "end"
    assert read_log(log).startswith("\ufffd")
    (tmp_path / "link").symlink_to(log)
    os.mkfifo(tmp_path / "pipe")
    assert [read_log(tmp_path / name) for name in ("link", "pipe", "gone", ".")] == [""] * 4
    os.link(log, tmp_path / "other")
    assert read_log(log) == "", "another name of it may be of a file outside"
