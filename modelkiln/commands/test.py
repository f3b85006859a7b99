"""`invoke test`: the tests of every room, each in the environment that it needs."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from modelkiln.building.kiln import Kiln
from modelkiln.errors import StageFailure, UsageError
from modelkiln.paths import REPOSITORY
from modelkiln.util import console

HOST_SOURCES = (
    "modelkiln",
    "tasks.py",
    *sorted(f"bench/{path.name}" for path in (REPOSITORY / "bench").glob("*.py")),
    "tests/modelkiln",
    "tests/web",
    "tests/containers",
    "tests/conftest.py",
    "tests/jobs.py",
    *sorted(f"tests/bench/{path.name}" for path in (REPOSITORY / "tests/bench").glob("*.py")),
    "tests/full_size",
    *sorted(path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob("tests/test_*.py")),
)
EXPORT_SOURCES = ("exporters", "bench/sides", "web", "tests/quantize")
# What `make test` leaves out, for it takes minutes and hardly differs from what it runs.
THOROUGH = "thorough"


def run_tests(kiln: Kiln, only: str = "", *, as_json: bool = False) -> None:
    """Run the parts of the test suite, all or those named, and say which failed.

    Raises:
        UsageError: there is no such part.
        StageFailure: a part failed.
    """
    parts: Mapping[str, Callable[[], list[list[str]]]] = {
        "lint": lambda: _lint(kiln),
        "host": lambda: [_pytest("not full_size", "--ignore=tests/containers")],
        "exporters": lambda: [_room_pytest(kiln, "export", "tests/exporters", "tests/bench/sides")],
        "quantize": lambda: [_room_pytest(kiln, "quantize", "tests/quantize")],
        "containers": lambda: [_pytest("not full_size", room="tests/containers")],
        "full-size": lambda: [_pytest("full_size and not thorough")],
        THOROUGH: lambda: [_pytest("full_size and thorough")],
    }
    names = only.split(",") if only else [name for name in parts if name != THOROUGH]
    unknown = [name for name in names if name not in parts]
    if unknown:
        raise UsageError(
            f"There is no part {unknown[0]!r} of the tests.",
            f"The parts are {', '.join(parts)}.",
            f"Leave --only out for all but {THOROUGH}.",
        )
    tools = kiln.provisioner.tools(
        "dev", REPOSITORY / "requirements" / "dev.txt", Path(sys.executable)
    )
    failed: list[str] = []
    for name in names:
        for command in parts[name]():
            console.note(f"+ {name}: {' '.join(command[1:])}")
            if _run(command, tools, quiet=as_json) != 0:
                failed.append(name)
    if as_json:
        console.say_json({name: name not in failed for name in names})
    if failed:
        raise StageFailure(
            f"Tests failed: {', '.join(dict.fromkeys(failed))}.",
            "The lines above say which.",
            f"invoke test --only {failed[0]} runs that part again.",
        )
    console.note(f"passed: {', '.join(names)}")


def _pytest(marked: str, *options: str, room: str = "tests") -> list[str]:
    rooms = ("exporters", "bench/sides", "quantize", "toy")
    elsewhere = [f"--ignore=tests/{one}" for one in rooms]
    # -rs: what was left out, for want of an engine or of Node, is told with the reason.
    command = [sys.executable, "-m", "pytest", room, "-rs", *elsewhere]
    return [*command, *options, "-m", marked]


def _room_pytest(kiln: Kiln, environment: str, *rooms: str) -> list[str]:
    """Tests that run on the Python of an environment."""
    python = kiln.provisioner.python(environment)
    lock = REPOSITORY / "tests" / "exporters" / "requirements.txt"
    tools = kiln.provisioner.tools("pytest", lock, python)
    return ["env", f"PYTHONPATH={tools}", str(python), "-m", "pytest", *rooms]


def _lint(kiln: Kiln) -> list[list[str]]:
    mypy = [sys.executable, "-m", "mypy"]
    return [
        [sys.executable, "-m", "ruff", "check", "."],
        [*mypy, *HOST_SOURCES],
        [*mypy, "--python-executable", str(kiln.provisioner.python("export")), *EXPORT_SOURCES],
    ]


def _run(command: list[str], tools: Path, *, quiet: bool) -> int:
    settings = {
        **os.environ,
        "PYTHONPATH": str(tools),
        "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    # Standard output is the result's where JSON was asked for.
    output = sys.stderr if quiet else None
    done = subprocess.run(command, cwd=REPOSITORY, env=settings, stdout=output, check=False)
    return done.returncode
