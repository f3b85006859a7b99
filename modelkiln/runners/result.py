"""The stage protocol, what is taken from a stage: outputs and metrics, or its error."""

import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelkiln.errors import (
    EnvironmentFailure,
    KilnError,
    OutOfSpace,
    PinError,
    StageFailure,
    UsageError,
    VerificationFailure,
)
from modelkiln.runners.job import Job
from modelkiln.store.records import check_name
from modelkiln.util.units import human_bytes

ALMOST_FULL = 1_000_000
ERRORS: Mapping[int, type[KilnError]] = {
    one.exit_code: one
    for one in (
        UsageError,
        PinError,
        EnvironmentFailure,
        StageFailure,
        VerificationFailure,
        OutOfSpace,
    )
}


def collect(job: Job, scratch: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Return the outputs and metrics of a stage that ended with status 0.

    Raises:
        StageFailure: the result is missing, names a file that is not there, leaves one unnamed, or
            an output is no regular file inside `out/`; or the stage has loaded a module of the room
            that is not in its key.
    """
    try:
        result = json.loads(_read_left(scratch / "result.json"))
        names, metrics = list(map(check_name, result["outputs"])), dict(result["metrics"])
        loaded = set(map(str, result["modules"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageFailure(
            f"{job.name}: the stage ended without a result.",
            f"result.json is missing or malformed: {error}",
            "Run it again with --keep-scratch and look at the folder.",
        ) from error
    if (scratch / "out").is_symlink():
        raise StageFailure(
            f"{job.name}: the folder of the outputs is a link.",
            "What it leads to is not the stage's.",
            "This is a fault of the stage; please report it.",
        )
    found = {
        path.relative_to(scratch / "out").as_posix()
        for path in (scratch / "out").rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    missing, extra = set(names) - found, found - set(names)
    if missing or extra:
        raise StageFailure(
            f"{job.name}: the outputs are not those that the result names.",
            f"Missing: {', '.join(sorted(missing)) or 'none'}; "
            f"not named: {', '.join(sorted(extra)) or 'none'}.",
            "This is a fault of the stage; please report it.",
        )
    outputs = {name: scratch / "out" / name for name in names}
    for name, path in outputs.items():
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1 or not state.st_size:
            raise StageFailure(
                f"{job.name}: output {name} is not a plain, non-empty file.",
                "Only regular files inside the stage's folder are accepted.",
                "This is a fault of the stage; please report it.",
            )
    undeclared = loaded - {_module_name(name) for name in job.sources}
    if undeclared:
        raise StageFailure(
            f"{job.name}: loaded modules that its key does not cover.",
            ", ".join(sorted(undeclared)),
            "This is a fault of the stage; please report it.",
        )
    return outputs, metrics


def _module_name(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def failure(job: Job, scratch: Path, status: int, log: str) -> KilnError:
    """Return the error of a stage that ended with a status other than 0."""
    try:
        told = json.loads(_read_left(scratch / "error.json"))
        kind = ERRORS.get(int(told["exit_code"]), StageFailure)
        return kind(f"{job.name} failed. {told['what']}", str(told["why"]), str(told["next"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if status == -9 or "MemoryError" in log or "std::bad_alloc" in log:
        return OutOfSpace(
            f"{job.name}: the stage was killed.",
            "Most likely memory ran out.",
            "Close other programs, or build with --jobs 1.",
        )
    # On a full disk not even the log may have been written.
    free = shutil.disk_usage(scratch).free
    if "No space left on device" in log or free < ALMOST_FULL:
        return OutOfSpace(
            f"{job.name}: the disk is full.",
            f"{human_bytes(free)} are free at {scratch.parent}.",
            "Free some space (invoke store.gc, invoke env.prune) and run the build again.",
        )
    tail = "\n".join(f"    {line}" for line in log.splitlines()[-12:])
    ended = f"signal {-status}" if status < 0 else f"status {status}"
    return StageFailure(
        f"{job.name}: the stage ended with {ended}.",
        f"Its last lines:\n{tail}" if tail else "It said nothing.",
        "Run it again; if it fails again, please report it with the log.",
    )


def read_log(path: Path, limit: int = 64_000) -> str:
    """Return the last `limit` bytes of a log, as text; empty where the stage put something else
    there.
    """
    try:
        return _read_left(path, limit)
    except (OSError, ValueError):
        return ""


def _read_left(path: Path, limit: int = 16_000_000) -> str:
    """Return the end of a file that a stage has left: only of a plain one, for a link could lead
    out of its folder, and a pipe would never end.

    Raises:
        OSError, ValueError: It is none.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
            raise ValueError(f"{path.name} is not a plain file")
        file.seek(max(0, state.st_size - limit))
        return file.read().decode("utf-8", "replace")
