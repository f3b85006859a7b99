"""The stage protocol, host side: what a stage is handed, and what is taken from it.

A stage runs in a scratch folder with `step.json`, `src/` (only its own modules), `inputs/` and an
empty `out/`; it leaves files under `out/` and then `result.json`, or `error.json`. Every runner
speaks this protocol.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelkiln.planning.graph import PROTOCOL


@dataclass(frozen=True, kw_only=True)
class Job:
    """A stage call with everything that it may see.

    Attributes:
        key: The step's key; empty for a stage that is run outside of any plan.
        environment: The name of the environment that the stage runs in.
        inputs: Verified files, by the name that the stage knows them by.
        sources: The stage's modules, by path below `src/`.
        cpus: Processors that it may use, where the runner can bound them.
        memory: Bytes that it is expected to need.
        gpu: Whether it needs a GPU.
    """

    name: str
    key: str = ""
    environment: str
    stage: str
    modules: tuple[str, ...]
    params: Mapping[str, Any]
    inputs: Mapping[str, Path]
    sources: Mapping[str, Path]
    threads: int
    seed: int
    timeout_s: int
    cpus: int
    memory: int
    gpu: bool = False


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


def prepare(job: Job, scratch: Path, *, mounted: bool = False) -> None:
    """Lay out the scratch folder of a job.

    Args:
        mounted: Leave an empty file in the place of each input, for the runner to mount it there;
            otherwise it is a link.
    """
    for room in ("src", "inputs", "out", "home", "tmp"):
        (scratch / room).mkdir()
    for name, path in job.sources.items():
        place = _make_place(scratch / "src" / name)
        shutil.copyfile(path, place)
        place.chmod(0o444)
    for name, path in job.inputs.items():
        place = _make_place(scratch / "inputs" / name)
        if mounted:
            place.touch()
        else:
            place.symlink_to(path.resolve())
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


def _make_place(place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def clean_environment(job: Job, scratch: str, temporary: str) -> dict[str, str]:
    """Return the environment variables that a stage sees: an allow-list, nothing of the host's.

    Args:
        scratch: The scratch folder, as the stage sees it.
        temporary: The folder for temporary files, likewise.
    """
    threads = str(job.threads)
    variables = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": f"{scratch}/home",
        "TMPDIR": temporary,
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": f"{scratch}/src",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "HF_HUB_OFFLINE": "1",
    }
    if not job.gpu:
        variables["CUDA_VISIBLE_DEVICES"] = ""
    return variables
