"""What this machine is and has: platform, Python, processors, memory, disk, namespaces."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from modelkiln.errors import EnvironmentFailure, OutOfSpace
from modelkiln.util.units import human_bytes

SUPPORTED_PYTHON = (3, 11)
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """The Python that environments are made from. Its fields are part of their identity."""

    implementation: str
    version: str
    machine: str

    @property
    def tag(self) -> str:
        """One word for all three, such as ``cpython-3.11.2-x86_64``."""
        return f"{self.implementation}-{self.version}-{self.machine}"


def interpreter() -> Interpreter:
    """Return the running interpreter, full version included."""
    return Interpreter(
        implementation=sys.implementation.name,
        version=".".join(map(str, sys.version_info[:3])),
        machine=os.uname().machine,
    )


def glibc_version() -> str:
    """Return the version of the GNU C library that is running, such as ``2.36``; empty where the C
    library is another one.
    """
    try:
        told = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        return ""
    return told.removeprefix("glibc ")


def base_python() -> Path:
    """Return the interpreter behind the virtual environment that is running, which outlives it."""
    return Path(sys.executable).resolve()


def check_platform(system: str = "", machine: str = "", python: tuple[int, int] = (0, 0)) -> None:
    """Stop at once where modelkiln is not supported. The arguments are for tests.

    Raises:
        EnvironmentFailure: The machine is not Linux on x86-64, or the Python is not CPython 3.11.
    """
    system = system or sys.platform
    machine = machine or os.uname().machine
    python = python if python != (0, 0) else sys.version_info[:2]
    if system != "linux" or machine not in ("x86_64", "amd64"):
        raise EnvironmentFailure(
            f"modelkiln does not run on {system} {machine}.",
            "Its environments are locked to packages for Linux on x86-64.",
            "Run it on a Linux x86-64 machine, or in a virtual machine or container of that kind.",
        )
    if python != SUPPORTED_PYTHON or sys.implementation.name != "cpython":
        raise EnvironmentFailure(
            f"modelkiln does not run on {sys.implementation.name} {python[0]}.{python[1]}.",
            "Its locks hold the packages for CPython 3.11.",
            "Install python3.11 and python3.11-venv, then run make again.",
        )


# The psABI's levels of x86-64, each with what it adds to the one before, as /proc/cpuinfo has it.
_LEVELS = (
    ("x86-64-v2", "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"),
    ("x86-64-v3", "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"),
    ("x86-64-v4", "avx512bw avx512cd avx512dq avx512f avx512vl"),
)
# What integer kernels make of numbers depends on these.
_INTEGER_FEATURES = ("avx_vnni", "avx512_vnni", "amx_int8")


@cache
def cpu_level() -> str:
    """Return what the processor can do, such as ``x86-64-v4 avx512_vnni amx_int8``: its level, and
    what it has for 8-bit integers.
    """
    return describe_cpu(_read("/proc/cpuinfo"))


def describe_cpu(cpuinfo: str) -> str:
    """Return the level and the features that the first processor in /proc/cpuinfo's text has."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    flags = next((set(rest.split()) for name, _, rest in lines if name.strip() == "flags"), set())
    level = "x86-64"
    for name, needs in _LEVELS:
        if not flags.issuperset(needs.split()):
            break
        level = name
    return " ".join((level, *(one for one in _INTEGER_FEATURES if one in flags)))


def cpu_count() -> int:
    """Return how many processors this process may use: its affinity, bounded by the control group's
    quota.
    """
    count = len(os.sched_getaffinity(0))
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) != 2:
        quota = [
            _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").strip(),
            _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us").strip(),
        ]
    if quota[0].isdecimal() and quota[1].isdecimal() and int(quota[1]) > 0:
        count = min(count, -(-int(quota[0]) // int(quota[1])))
    return max(1, count)


def memory_available() -> int:
    """Return the bytes of memory that can be taken now without swapping, bounded by the control
    group.
    """
    available = _NO_LIMIT
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    for limit_file, usage_file in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        limit, usage = _read(limit_file).strip(), _read(usage_file).strip()
        if limit.isdecimal() and usage.isdecimal() and int(limit) < _NO_LIMIT:
            available = min(available, max(0, int(limit) - int(usage)))
    return available


def disk_free(path: Path) -> int:
    """Return the bytes that this user may still write where ``path`` lies or will lie."""
    for folder in (path, *path.parents):
        if folder.is_dir():
            status = os.statvfs(folder)
            return status.f_bavail * status.f_frsize
    raise EnvironmentFailure(
        f"{path} cannot be made.", "None of its parents is a folder.", "Name another folder."
    )


def require_disk(path: Path, need: int, purpose: str) -> None:
    """Stop before work for which the disk has no room.

    Args:
        path: Where the work will write.
        need: Bytes it will write.
        purpose: What for, to follow "for", such as ``"the export environment"``.

    Raises:
        OutOfSpace: With the bytes needed and the bytes free.
    """
    have = disk_free(path)
    if have < need:
        raise OutOfSpace(
            f"Not enough disk for {purpose}: need {human_bytes(need)}, have {human_bytes(have)}.",
            f"The filesystem that holds {path} is nearly full.",
            "Free some with invoke env.prune or invoke store.gc, or set MODELKILN_CACHE or "
            "MODELKILN_ARTIFACTS to a folder on a larger disk.",
        )


def require_gpu(found: bool, purpose: str) -> None:
    """Stop before work that was asked to run on a GPU where there is none.

    Args:
        found: Whether the machine has one.
        purpose: What for, to follow "for".

    Raises:
        EnvironmentFailure: There is none.
    """
    if not found:
        raise EnvironmentFailure(
            f"This machine has no GPU for {purpose}.",
            "CUDA was asked for, and nvidia-smi names no device.",
            "Leave --calibration-eps out, or use a machine with an NVIDIA GPU; invoke doctor says "
            "what was found.",
        )


@cache
def gpu_identity() -> str:
    """Return the first GPU's name and its driver's version, such as ``NVIDIA H200, 570.1``, as
    nvidia-smi has them; empty where there is none. Asked once per process.
    """
    found = probe_gpu()
    return ", ".join(found.detail.split(", ")[:2]) if found.found else ""


@cache
def unshare_command() -> tuple[str, ...] | None:
    """Return the words to put before a command so that it runs without a network; None where not
    allowed.

    Root makes a network namespace directly; other users map themselves into a user namespace first.
    Asked of the kernel once per process, by running ``true`` in it.
    """
    import shutil
    import subprocess

    unshare, true = shutil.which("unshare"), shutil.which("true")
    if not unshare or not true:
        return None
    for options in (("--net",), ("--user", "--map-current-user", "--net")):
        command = (unshare, *options, "--")
        try:
            done = subprocess.run(
                [*command, true], stdin=subprocess.DEVNULL, capture_output=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return command
    return None


def can_unshare_net() -> bool:
    """Return whether the local runner can take the network away from a stage."""
    return unshare_command() is not None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


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
    """Return the NVIDIA GPUs and their driver, as nvidia-smi names them."""
    return probe_command(
        "nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"
    )


def probe_command(name: str, *arguments: str) -> Probe:
    """Run a program that should print what it is, and take the first line of its output."""
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
