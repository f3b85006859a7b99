"""`invoke` without its start: one process imports what commands need, and forks one for each.

A forked command is a process of its own, with its own arguments, environment variables, output and
exit status; only the imports of the libraries, which take longer than most commands of the toy
family, are those of the first process.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
# What reads the catalog's flags when it is imported is left to the command that is run.
LIBRARIES = ("invoke.main", "unittest.mock", "docker", "requests")
ROOMS = ("modelkiln.commands", "modelkiln.runners", "modelkiln.building", "modelkiln.store")
OWN = {"modelkiln.commands.task"}


class Warm:
    """Runs commands; `close` it.

    Args:
        folder: A place for what the commands say.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.warm"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, arguments: tuple[str, ...], variables: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        """Run `invoke ARGUMENTS` with these environment variables."""
        said = {name: self._folder / name for name in ("stdout", "stderr")}
        asked = {
            "arguments": arguments,
            "variables": dict(variables),
            **{name: str(path) for name, path in said.items()},
        }
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(f"{json.dumps(asked)}\n")
        self._server.stdin.flush()
        status = int(self._server.stdout.readline())
        texts = {name: path.read_text() for name, path in said.items()}
        return subprocess.CompletedProcess(["invoke", *arguments], status, **texts)

    def close(self) -> None:
        """End the process that forks."""
        self._server.communicate()


def _serve() -> None:
    for name in LIBRARIES:
        import_module(name)
    for room in ROOMS:
        for path in sorted((REPOSITORY / room.replace(".", "/")).glob("[a-z]*.py")):
            if (name := f"{room}.{path.stem}") not in OWN:
                import_module(name)
    # What is there already is not looked at again, so that forked processes go on sharing it.
    gc.freeze()
    while line := sys.stdin.readline():
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(asked)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _run(asked: Mapping[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(asked["variables"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    places = (os.devnull, asked["stdout"], asked["stderr"])
    for number, path in enumerate(places):
        opened = os.open(path, flags if number else os.O_RDONLY, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.argv = ["invoke", *asked["arguments"]]
    from invoke.main import program

    program.run()
    raise SystemExit(0)


if __name__ == "__main__":
    _serve()
