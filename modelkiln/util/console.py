"""What a command says while it works: a board on a terminal, plain lines elsewhere.

All but results goes to standard error, so that `--json` leaves standard output to the result.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

# Told how far a job is, 0 to 1 or None where it cannot be known, and what it is doing.
OnProgress = Callable[[float | None, str], None]


def is_terminal() -> bool:
    """Tell whether to draw: a terminal, and not asked to be plain (NO_COLOR, TERM=dumb, CI)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM") == "dumb"
    return sys.stderr.isatty() and not plain


def note(text: str) -> None:
    """Write one line to the user."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def warn(text: str) -> None:
    """Write one line that stands out."""
    note(f"\033[33mwarning:\033[0m {text}" if is_terminal() else f"warning: {text}")


def say(text: str = "") -> None:
    """Print a line of the result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_json(document: Any) -> None:
    """Print the result as JSON."""
    say(json_text(document))


def json_text(document: Any) -> str:
    """Return JSON as commands print it."""
    import json

    return json.dumps(document, indent=2, sort_keys=True)


def say_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, aligned; numbers and sizes (as they begin) to the right."""
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles))]
    right = [bool(rows) and all(row[i][:1].isdigit() for row in rows) for i in range(len(titles))]
    for row in [titles, *rows]:
        cells = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        say("  ".join(cells).rstrip())


class Board(Protocol):
    """Shows several jobs at once; safe to call from threads."""

    def start(self, job: str, text: str = "") -> None:
        """Show that a job begins."""

    def update(self, job: str, share: float | None, text: str) -> None:
        """Show how far a job is: 0 to 1, or None where it cannot be known."""

    def end(self, job: str, text: str) -> None:
        """Show that a job has ended; `text` is its last word."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class PlainBoard:
    """Lines with the seconds since the command began; at most one line a job every few seconds."""

    EVERY_S = 5.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._told: dict[str, float] = {}

    def start(self, job: str, text: str = "") -> None:
        self._say(f"start  {job}  {text}".rstrip())
        self._told[job] = time.monotonic()

    def update(self, job: str, share: float | None, text: str) -> None:
        now = time.monotonic()
        if now - self._told.get(job, 0.0) < self.EVERY_S:
            return
        self._told[job] = now
        percent = "" if share is None else f"{share:4.0%}  "
        self._say(f"       {job}  {percent}{text}".rstrip())

    def end(self, job: str, text: str) -> None:
        self._say(text)
        self._told.pop(job, None)

    def _say(self, text: str) -> None:
        with self._lock:
            note(f"[{time.monotonic() - self._began:6.1f} s] {text}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class LiveBoard:
    """A line a running job, with a bar, below the lines of what has ended."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._tasks: dict[str, Any] = {}

    def start(self, job: str, text: str = "") -> None:
        self._tasks[job] = self._progress.add_task(job, total=None, text=text)

    def update(self, job: str, share: float | None, text: str) -> None:
        if job in self._tasks:
            total = None if share is None else 1.0
            self._progress.update(self._tasks[job], total=total, completed=share or 0.0, text=text)

    def end(self, job: str, text: str) -> None:
        if job in self._tasks:
            self._progress.remove_task(self._tasks.pop(job))
        self._progress.console.print(text, markup=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def open_board() -> Board:
    """Return the board that fits where standard error goes."""
    return LiveBoard() if is_terminal() else PlainBoard()


@contextmanager
def show_progress(job: str) -> Iterator[OnProgress]:
    """Give a board with one job, which appears with its first news."""
    started = False
    with open_board() as board:

        def on_progress(share: float | None, text: str) -> None:
            nonlocal started
            if not started:
                board.start(job, text)
                started = True
            board.update(job, share, text)

        yield on_progress
        if started:
            board.end(job, f"ready  {job}")
