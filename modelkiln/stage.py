"""The stage protocol, host side: what a stage is handed, and what is taken from it.

A stage runs in a scratch folder with `step.json`, `src/` (only its own modules), `inputs/` and an
empty `out/`; it leaves files under `out/` and then `result.json`, or `error.json`. Every runner
speaks this protocol.
"""

import json
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
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
from modelkiln.plan import PROTOCOL
from modelkiln.units import human_bytes

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


@dataclass(frozen=True, kw_only=True)
class Job:
    """A stage call with everything that it may see.

    Attributes:
        inputs: Verified files, by the name that the stage knows them by.
        sources: The stage's modules, by path below `src/`.
        python: The environment's interpreter.
    """

    name: str
    stage: str
    modules: tuple[str, ...]
    params: Mapping[str, Any]
    inputs: Mapping[str, Path]
    sources: Mapping[str, Path]
    python: Path
    threads: int
    seed: int
    timeout_s: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a stage left, and how it ran.

    Attributes:
        outputs: Files in the scratch folder, by name.
        peak_rss: Bytes, of the largest single process.
        seal: What the runner kept away from the stage: `full` or `partial`, with the details.
    """

    outputs: Mapping[str, Path]
    metrics: Mapping[str, Any]
    seconds: float
    peak_rss: int
    seal: Mapping[str, Any]


def prepare(job: Job, scratch: Path) -> None:
    """Lay out the scratch folder of a job."""
    for room in ("src", "inputs", "out", "home", "tmp"):
        (scratch / room).mkdir()
    for name, path in job.sources.items():
        _place(scratch / "src" / name, path, copy=True)
    for name, path in job.inputs.items():
        _place(scratch / "inputs" / name, path, copy=False)
    text = {
        "protocol": PROTOCOL,
        "step": job.name,
        "stage": job.stage,
        "modules": list(job.modules),
        "params": job.params,
        "inputs": {name: f"inputs/{name}" for name in job.inputs},
        "threads": job.threads,
        "seed": job.seed,
    }
    (scratch / "step.json").write_text(json.dumps(text, indent=1), encoding="utf-8")


def _place(place: Path, path: Path, *, copy: bool) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if copy:
        shutil.copyfile(path, place)
        place.chmod(0o444)
    else:
        place.symlink_to(path.resolve())


def collect(job: Job, scratch: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """The outputs and metrics of a stage that ended with status 0.

    Raises:
        StageFailure: the result is missing, names a file that is not there, leaves one unnamed, or
            an output is no regular file inside `out/`; or the stage has loaded a module of the room
            that is not in its key.
    """
    result_path = scratch / "result.json"
    try:
        result = json.loads(result_path.read_text(encoding="utf-8"))
        names, metrics = list(result["outputs"]), dict(result["metrics"])
        loaded = set(result["modules"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageFailure(
            f"{job.name}: the stage ended without a result.",
            f"result.json is missing or malformed: {error}",
            "Run it again with --keep-scratch and look at the folder.",
        ) from error
    found = {
        path.relative_to(scratch / "out").as_posix()
        for path in (scratch / "out").rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    missing, extra = set(names) - found, found - set(names)
    if missing or extra:
        raise StageFailure(
            f"{job.name}: the outputs are not those that the result names.",
            f"missing: {', '.join(sorted(missing)) or 'none'}; "
            f"not named: {', '.join(sorted(extra)) or 'none'}.",
            "This is a fault of the stage; please report it.",
        )
    outputs = {name: scratch / "out" / name for name in names}
    for name, path in outputs.items():
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1 or not state.st_size:
            raise StageFailure(
                f"{job.name}: output {name} is no plain, non-empty file.",
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
    """The error of a stage that ended with a status other than 0."""
    try:
        told = json.loads((scratch / "error.json").read_text(encoding="utf-8"))
        kind = ERRORS.get(int(told["exit_code"]), StageFailure)
        return kind(f"{job.name}: {told['what']}", str(told["why"]), str(told["next"]))
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


def clean_environment(job: Job, scratch: Path) -> dict[str, str]:
    """The environment variables that a stage sees: an allow-list, nothing of the host's."""
    threads = str(job.threads)
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(scratch / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
    }


def read_log(path: Path, limit: int = 64_000) -> str:
    """The last `limit` bytes of a log, as text."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        return file.read().decode("utf-8", "replace")
