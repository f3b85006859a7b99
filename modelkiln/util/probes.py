"""Looks for things outside of Python, for doctor: programs, a GPU."""

import shutil
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a look at something outside of Python found.

    Args:
        found: Whether it is there and usable.
        detail: The version when found, else the reason, in a few words.
    """

    found: bool
    detail: str


def probe_gpu() -> Probe:
    """The NVIDIA GPUs and their driver, as nvidia-smi names them."""
    return probe_command(
        "nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"
    )


def probe_command(name: str, *arguments: str) -> Probe:
    """Runs a program that should print what it is, and takes the first line of its output."""
    program = shutil.which(name)
    if not program:
        return Probe(found=False, detail=f"{name} is not installed")
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Probe(found=False, detail=f"{name} does not answer")
    lines = (done.stdout + done.stderr).strip().splitlines() or [""]
    if done.returncode != 0:
        return Probe(found=False, detail=f"{name} failed: {lines[-1].strip()}".rstrip(": "))
    return Probe(found=True, detail=lines[0].strip())
