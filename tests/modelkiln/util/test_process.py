"""A command that is listened to while it runs."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelkiln.errors import StageFailure
from modelkiln.util.process import CommandFailed, follow


def python(program: str, folder: Path, given: Iterator[bytes] | None = None) -> Iterator[str]:
    return follow([sys.executable, "-c", program], dict(os.environ), folder, given)


def test_every_line_of_both_streams_is_given_and_empty_ones_are_not(tmp_path: Path) -> None:
    program = (
        "import os, sys\nprint('one  ', flush=True)\nprint(flush=True)\n"
        "print('two', file=sys.stderr, flush=True)\n"
        "os.write(1, b'\\xff\\n' + os.getcwd().encode())"
    )
    assert list(python(program, tmp_path)) == ["one", "two", "\ufffd", str(tmp_path)]


def test_it_sees_the_variables_that_it_is_given_and_no_others(tmp_path: Path) -> None:
    program = "import os; print(os.environ.get('KILN'), 'HOME' in os.environ)"
    said = follow([sys.executable, "-c", program], {"KILN": "hot"}, tmp_path)
    assert list(said) == ["hot False"]


def test_a_failure_comes_after_all_that_was_said(tmp_path: Path) -> None:
    lines = python("print('about to fail'); raise SystemExit(3)", tmp_path)
    assert next(lines) == "about to fail"
    with pytest.raises(CommandFailed):
        next(lines)


def test_silence_is_told_each_second(tmp_path: Path) -> None:
    assert next(python("import time; time.sleep(60)", tmp_path)) == ""


def test_who_stops_listening_ends_it(tmp_path: Path) -> None:
    lines = python("import os, time; print(os.getpid(), flush=True); time.sleep(60)", tmp_path)
    pid = int(next(lines))
    began = time.monotonic()
    lines.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 5
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_reads_what_it_is_given(tmp_path: Path) -> None:
    program = "import sys; print(len(sys.stdin.buffer.read()))"
    blocks = (b"x" * 100_000 for _ in range(5))
    assert list(python(program, tmp_path, blocks)) == ["500000"]
    # One that ends before it has read everything says itself why.
    assert list(python("print('enough')", tmp_path, (b"x" * 100_000 for _ in range(5)))) == [
        "enough"
    ]


def test_what_cannot_be_read_for_it_is_the_error(tmp_path: Path) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"one\n"
        raise StageFailure("It cannot be read.")

    said = python("import sys; print(sys.stdin.read())", tmp_path, blocks())
    assert next(said) == "one"
    with pytest.raises(StageFailure, match="cannot be read"):
        next(said)
