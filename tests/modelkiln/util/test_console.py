"""What commands say: results on standard output, all else on standard error."""

import io
import json
import re
import sys
import time

import pytest

from modelkiln.util import console
from modelkiln.util.console import LiveBoard, PlainBoard


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Let standard error be a terminal; no fixture, for pytest sets it anew after these."""
    for name in ("NO_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    opened = Terminal()
    monkeypatch.setattr(sys, "stderr", opened)
    return opened


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")])
def test_who_asks_for_plain_lines_gets_them(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    open_terminal(monkeypatch)
    assert console.is_terminal()
    assert isinstance(console.open_board(), LiveBoard)
    monkeypatch.setenv(name, value)
    assert not console.is_terminal()
    assert isinstance(console.open_board(), PlainBoard)


def test_a_warning_stands_out_where_there_is_colour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = open_terminal(monkeypatch)
    console.warn("hot")
    monkeypatch.setenv("NO_COLOR", "1")
    console.warn("hot")
    assert terminal.getvalue() == "\x1b[33mwarning:\x1b[0m hot\nwarning: hot\n"


def test_results_alone_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("result")
    console.say_json({"b": 1, "a": [2]})
    console.note("news")
    said = capsys.readouterr()
    first, _, rest = said.out.partition("\n")
    assert first == "result" and json.loads(rest) == {"a": [2], "b": 1}
    assert rest.index('"a"') < rest.index('"b"')
    assert said.err == "news\n"


def test_columns_of_numbers_are_aligned_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    console.say_table(("name", "size", "note"), [("a", "9 kB", "x"), ("longer", "10 kB", "2")])
    assert capsys.readouterr().out.splitlines() == [
        "name     size  note",
        "a        9 kB  x",
        "longer  10 kB  2",
    ]
    console.say_table(("name", "size"), [])
    assert capsys.readouterr().out == "name  size\n"


def test_a_plain_board_tells_of_a_job_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with PlainBoard() as board:
        board.start("a", "begins")
        board.update("a", 0.1, "too soon")
        now = 105.0
        board.update("a", 0.25, "a quarter")
        board.update("a", 0.3, "too soon")
        board.update("b", None, "another")
        now = 111.0
        board.update("a", None, "who knows")
        board.end("a", "done   a")
    assert capsys.readouterr().err.splitlines() == [
        "[   0.0 s] start  a  begins",
        "[   5.0 s]        a   25%  a quarter",
        "[   5.0 s]        b  another",
        "[  11.0 s]        a  who knows",
        "[  11.0 s] done   a",
    ]


def test_a_live_board_keeps_the_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    with LiveBoard() as board:
        board.start("a [1]", "begins")
        board.update("a [1]", 0.5, "half")
        board.update("unknown", 0.5, "nobody's")
        board.end("a [1]", "done   a [1]")
        board.end("unknown", "done   b")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "done   a [1]" in plain and "done   b" in plain
    assert "nobody's" not in plain


def test_progress_appears_with_its_first_news(capsys: pytest.CaptureFixture[str]) -> None:
    with console.show_progress("image"):
        pass
    assert capsys.readouterr().err == ""
    with console.show_progress("image") as on_progress:
        on_progress(None, "begins")
        on_progress(0.5, "half")
    lines = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["start  image  begins", "ready  image"]
