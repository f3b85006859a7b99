"""Runs a command and gives what it says while it runs; whoever stops listening ends it."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from modelkiln.errors import KilnError


class CommandFailed(Exception):
    """A command ended with another status than 0."""


def follow(
    command: Sequence[str],
    variables: Mapping[str, str],
    folder: Path,
    given: Iterable[bytes] | None = None,
) -> Iterator[str]:
    """Run a command; give each line it says, and an empty one each second in which it says none.

    Args:
        variables: All of its environment.
        folder: Where it runs.
        given: What it reads from its standard input.

    Raises:
        CommandFailed: It failed. All of its lines were given before.
        KilnError, OSError: What it was to read cannot be read.
    """
    import selectors
    import shutil
    import subprocess
    import threading

    # Whoever kills this process ends the command too.
    tied = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    process = subprocess.Popen(
        [*tied, *command],
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    failures: list[Exception] = []
    feeder: threading.Thread | None = None
    rest = b""
    try:
        if given is not None:
            assert process.stdin is not None
            arguments = (given, process.stdin, failures)
            feeder = threading.Thread(target=_feed, args=arguments, daemon=True)
            feeder.start()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(1.0):
                    yield ""
                    continue
                block = os.read(process.stdout.fileno(), 1 << 16)
                *whole, rest = (rest + block).split(b"\n")
                for line in whole if block else [rest]:
                    text = line.decode("utf-8", "replace").rstrip()
                    if text:
                        yield text
                if not block:
                    break
        status = process.wait()
        if failures:
            raise failures[0]
        if status:
            raise CommandFailed
    finally:
        _end(process.pid, process.poll, process.wait)
        if feeder is not None:
            feeder.join()
        process.stdout.close()


def _feed(given: Iterable[bytes], pipe: IO[bytes], failures: list[Exception]) -> None:
    # A command that ended says itself why.
    with suppress(BrokenPipeError), pipe:
        blocks = iter(given)
        while True:
            try:
                block = next(blocks, None)
            except (KilnError, OSError) as error:
                failures.append(error)
                return
            if block is None:
                return
            pipe.write(block)


def _end(pid: int, poll: Callable[[], int | None], wait: Callable[[float], int]) -> None:
    import signal
    import subprocess

    for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        if poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(pid, number)
        with suppress(subprocess.TimeoutExpired):
            wait(patience)
