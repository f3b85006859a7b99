"""`python -m exporters step.json`: what the runner can rely on."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exporters import __main__
from exporters.protocol import StageError, write_json
from tests.exporters.shrunken import ROOT, write_step

STAGE = """
import errno, os, sys
from pathlib import Path
import av
from exporters.protocol import Result, StageError, report_progress

def run(step):
    print("a library's chatter")
    os.write(1, b"native chatter\\n")
    report_progress(0.5, "half")
    match step.param("do"):
        case "work":
            (step.out / "a.txt").write_text(step.input("x/y.txt").read_text())
            return Result(outputs=["a.txt"], metrics={"n": 1})
        case "forget":
            return Result(outputs=["a.txt"])
        case "refuse":
            raise StageError("what", "why", "next", exit_code=2)
        case "break":
            raise KeyError("oops")
        case "starve":
            raise MemoryError
        case "starve torch":
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")
        case "fill":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case "fill the quota":
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        case "fill with video":
            with av.open("/dev/full", "w", format="yuv4mpegpipe") as container:
                stream = container.add_stream("wrapped_avframe", rate=25)
                stream.pix_fmt = "yuv420p"
                for _ in range(9):
                    container.mux(stream.encode(av.VideoFrame(640, 480, "yuv420p")))
        case "fill and wrap":
            try:
                Path("/dev/full").write_text("x")
            except OSError as error:
                raise StageError("what", "why", "next") from error
        case "fill natively":
            raise RuntimeError("I/O error: No space left on device (os error 28)")
        case "lack":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        case "confuse":
            return {"outputs": []}
"""


def _run(folder: Path, do: str) -> tuple[int, list[Any], dict[str, Any]]:
    (folder / "given.txt").write_text("hello")
    (folder / "toy_stage.py").write_text(STAGE)
    step = write_step(
        folder / "s", "toy", ["toy_stage"], {"do": do}, {"x/y.txt": folder / "given.txt"}
    )
    done = subprocess.run(
        [sys.executable, "-m", "exporters", "step.json"],
        cwd=step.parent,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    written = {
        name: json.loads((step.parent / name).read_text())
        for name in ("result.json", "error.json")
        if (step.parent / name).is_file()
    }
    assert len(written) == 1
    return done.returncode, lines, next(iter(written.values()))


def test_a_stage_that_works(tmp_path: Path) -> None:
    status, progress, result = _run(tmp_path, "work")
    assert status == 0
    assert progress == [{"progress": 0.5, "message": "half"}]
    assert (tmp_path / "s/out/a.txt").read_text() == "hello"
    assert result == {
        "outputs": ["a.txt"],
        "metrics": {"n": 1},
        "modules": ["exporters", "exporters.protocol"],
    }


@pytest.mark.parametrize(
    ("do", "status", "what"),
    [
        ("refuse", 2, "what"),
        ("break", 5, "The stage stopped with KeyError."),
        ("starve", 9, "The stage ran out of memory."),
        ("starve torch", 9, "The stage ran out of memory."),
        ("fill", 9, "The disk is full."),
        ("fill the quota", 9, "The disk is full."),
        ("fill with video", 9, "The disk is full."),
        ("fill and wrap", 9, "The disk is full."),
        ("fill natively", 9, "The disk is full."),
        ("lack", 5, "The stage stopped with FileNotFoundError."),
        ("forget", 5, "named outputs that it did not write: a.txt."),
        ("confuse", 5, "toy_stage.run returned dict."),
        ("nothing", 5, "toy_stage.run returned NoneType."),
    ],
)
def test_a_stage_that_fails(do: str, status: int, what: str, tmp_path: Path) -> None:
    found, _, error = _run(tmp_path, do)
    assert found == error["exit_code"] == status
    assert error["what"].endswith(what)
    assert all(error[part] for part in ("what", "why", "next"))


def test_a_full_disk_is_told_in_the_room_of_the_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "out/half made.bin"
    made.parent.mkdir()
    made.write_bytes(b"0")

    def write(path: Path, document: object) -> None:
        if made.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_json(path, document)

    monkeypatch.setattr(__main__, "write_json", write)
    error = StageError("what", "why", "next", exit_code=9)
    assert __main__._fail(tmp_path / "step.json", error) == 9
    assert json.loads((tmp_path / "error.json").read_text())["exit_code"] == 9
