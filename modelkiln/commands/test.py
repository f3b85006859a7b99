"""`invoke test`: the tests of every room, each in the environment that it needs."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from modelkiln.building.kiln import Kiln
from modelkiln.errors import StageFailure, UsageError
from modelkiln.paths import REPOSITORY
from modelkiln.util import console
from modelkiln.util.machine import cpu_count

HOST_SOURCES = (
    "modelkiln",
    "tasks.py",
    *sorted(f"bench/{path.name}" for path in (REPOSITORY / "bench").glob("*.py")),
    "tests/modelkiln",
    "tests/web",
    "tests/containers",
    "docs",
    "tests/conftest.py",
    "tests/jobs.py",
    "tests/warm.py",
    *sorted(f"tests/bench/{path.name}" for path in (REPOSITORY / "tests/bench").glob("*.py")),
    "tests/full_size",
    *sorted(path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob("tests/test_*.py")),
)
EXPORT_SOURCES = ("exporters", "bench/sides", "web", "tests/quantize", "tests/rtx")
# What `make test` leaves out, for it takes minutes and hardly differs from what it runs.
THOROUGH = "thorough"
# Each worker imports all tests first, and with more of them the longest file is what is waited for.
MOST_WORKERS = 8


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a part went.

    Attributes:
        seconds: As a clock on the wall counts them.
        cpu_seconds: What its processes took of the processors, for themselves and in the kernel.
    """

    passed: bool
    seconds: float
    cpu_seconds: float


def run_tests(kiln: Kiln, only: str = "", *, as_json: bool = False) -> None:
    """Run the parts of the test suite, all or those named; say which failed and what each took.

    Raises:
        UsageError: there is no such part.
        StageFailure: a part failed.
    """
    parts: Mapping[str, Callable[[], list[list[str]]]] = {
        "lint": lambda: _lint(kiln),
        "host": lambda: [_pytest("not full_size", "--ignore=tests/containers", *_in_parallel())],
        "exporters": lambda: [
            _room_pytest(kiln, "export", "tests/exporters", "tests/bench/sides", *_in_parallel())
        ],
        "quantize": lambda: [_room_pytest(kiln, "quantize", "tests/quantize")],
        "rtx": lambda: [_room_pytest(kiln, "rtx", "tests/rtx")],
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
    ran = {name: _run_part(name, parts[name], tools, quiet=as_json) for name in names}
    if as_json:
        console.say_json({name: asdict(one) for name, one in ran.items()})
    else:
        _show(ran)
    failed = [name for name, one in ran.items() if not one.passed]
    if failed:
        raise StageFailure(
            f"Tests failed: {', '.join(failed)}.",
            "The lines above say which.",
            f"invoke test --only {failed[0]} runs that part again.",
        )
    console.note(f"passed: {', '.join(names)}")


def _run_part(
    name: str, commands: Callable[[], Sequence[list[str]]], tools: Path, *, quiet: bool
) -> Ran:
    """Run the commands of a part, all of them even where one fails."""
    started, before = time.monotonic(), _cpu_seconds()
    passed = True
    for command in commands():
        console.note(f"+ {name}: {' '.join(command[1:])}")
        passed = _run(command, tools, quiet=quiet) == 0 and passed
    return Ran(
        passed=passed,
        seconds=round(time.monotonic() - started, 1),
        cpu_seconds=round(_cpu_seconds() - before, 1),
    )


def _cpu_seconds() -> float:
    """Return what the processes that this one has waited for, and theirs, have taken so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _show(ran: Mapping[str, Ran]) -> None:
    rows = [
        (
            name,
            "passed" if one.passed else "failed",
            f"{one.seconds:.1f}",
            f"{one.cpu_seconds:.1f}",
        )
        for name, one in ran.items()
    ]
    console.say_table(("part", "result", "seconds", "CPU seconds"), rows)


def _in_parallel() -> list[str]:
    # A file stays together, so that what its tests share is made once.
    return ["-n", str(min(MOST_WORKERS, cpu_count())), "--dist", "loadfile"]


def _pytest(marked: str, *options: str, room: str = "tests") -> list[str]:
    rooms = ("exporters", "bench/sides", "quantize", "rtx", "toy")
    elsewhere = [f"--ignore=tests/{one}" for one in rooms]
    # -rs: what was left out, for want of an engine or of Node, is told with the reason.
    command = [sys.executable, "-m", "pytest", room, "-rs", *elsewhere]
    return [*command, *options, "-m", marked]


def _room_pytest(kiln: Kiln, environment: str, *rooms: str) -> list[str]:
    """Test that run on the Python of an environment."""
    python = kiln.provisioner.python(environment)
    own = REPOSITORY / "tests" / environment / "requirements.txt"
    lock = own if own.is_file() else REPOSITORY / "tests" / "exporters" / "requirements.txt"
    tools = kiln.provisioner.tools("pytest", lock, python)
    return ["env", f"PYTHONPATH={tools}", str(python), "-m", "pytest", *rooms]


def _lint(kiln: Kiln) -> list[list[str]]:
    mypy = [sys.executable, "-m", "mypy"]
    return [
        [sys.executable, "-m", "ruff", "check", "."],
        [sys.executable, "-m", "ruff", "format", "--check", "."],
        [*mypy, *HOST_SOURCES],
        [*mypy, "--python-executable", str(kiln.provisioner.python("export")), *EXPORT_SOURCES],
    ]


def _run(command: list[str], tools: Path, *, quiet: bool) -> int:
    settings = {
        # Hundreds of commands start in the tests: each would compile all that it imports.
        **{name: one for name, one in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONPATH": str(tools),
        "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    # Standard output is the result's where JSON was asked for.
    output = sys.stderr if quiet else None
    done = subprocess.run(command, cwd=REPOSITORY, env=settings, stdout=output, check=False)
    return done.returncode
