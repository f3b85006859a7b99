"""What every side of a bench does in its process: open a graph, run, be timed, be measured.

Runs inside the export environment. Neither runtime is imported at the top: a side must not pay for
the other's memory.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Inputs = dict[str, Floats]


@dataclass(frozen=True, kw_only=True)
class Side:
    """What is measured.

    Attributes:
        runtime: Its name and version.
        run: Inputs to the output that is compared.
        load_seconds: Of a session; None for PyTorch.
    """

    runtime: str
    run: Callable[[Inputs], Floats]
    load_seconds: float | None = None


def open_session(path: Path, threads: int, *, profile: Path | None = None) -> tuple[Any, float]:
    """Return a graph in a new session of ONNX Runtime on the CPU, and the seconds that opening it
    took.

    Args:
        path: The graph.
        threads: How many; all else is the runtime's default.
        profile: What the names of profiles begin with, if there is to be one.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    began = time.perf_counter()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session, time.perf_counter() - began


def runtime_name() -> str:
    """Return ONNX Runtime, with its version."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def measure(side: Side, inputs: Inputs, out: Path, *, runs: int = 1) -> None:
    """Run a side, once before it counts; print what it took as one line of JSON.

    `run_seconds` is the median of the runs that count, and `peak_bytes` the most memory that the
    process ever held.

    Args:
        out: Gets the output, as .npy.
        runs: How many count.
    """
    output = side.run(inputs)
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        side.run(inputs)
        seconds.append(time.perf_counter() - began)
    told = {
        "runtime": side.runtime,
        "load_seconds": side.load_seconds,
        "run_seconds": median(seconds),
        "peak_bytes": peak_bytes(),
    }
    np.save(out, output)
    print(json.dumps(told))


def peak_bytes() -> int:
    """Return the most memory that this process has held, by the kernel's count.

    Not `getrusage`: that starts with what the parent held when it forked.
    """
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status does not say VmHWM")
