"""Runs a command and measures it: wall time, processor time, peak memory of its process tree."""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelkiln.errors import EnvironmentFailure, StageFailure, UsageError

_SHORTEST_PAUSE = 0.02
_SHARE_OF_SAMPLING = 0.05


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program as its user starts it.

    Attributes:
        environment: Variables on top of the caller's.
    """

    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a finished command took.

    Attributes:
        wall_seconds: From just before the process was made until it was reaped.
        cpu_seconds: User and system time of the process and of all children it waited for.
        peak_bytes: The larger of the two next ones; 0 where memory was not sampled.
        tree_bytes: Highest sum, over samples, of the proportional set sizes of the process tree.
        largest_bytes: The kernel's own high-water mark of the largest process of the tree.
        samples: How often the tree was sampled.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int = 0
    tree_bytes: int = 0
    largest_bytes: int = 0
    samples: int = 0


def run_measured(command: Command, log: Path, *, memory: bool = True) -> Usage:
    """Run a command to its end.

    A second thread sums the memory of the process and its descendants, as often as costs at most a
    twentieth of one processor. Short peaks between two samples are caught for single processes by
    the kernel's high-water mark.

    Args:
        log: Receives stdout and stderr.
        memory: Whether to sample memory; without it nothing runs beside the command.

    Raises:
        EnvironmentFailure: The program is not there.
        StageFailure: It ended with a status other than 0; the end of its log is shown.
    """
    import subprocess

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(
                command.argv,
                cwd=command.cwd,
                env={**os.environ, **command.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise EnvironmentFailure(
                f"{command.argv[0]} cannot be started.",
                f"{error.strerror}.",
                "Install it, or run invoke doctor to see what is missing.",
            ) from error
        sampler = _Sampler(process.pid) if memory else None
        try:
            _, status, spent = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            if sampler:
                sampler.stop()
    if process.returncode != 0:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        raise StageFailure(
            f"A command under measurement ended with status {process.returncode}: "
            f"{' '.join(command.argv)}",
            "\n".join(["Its last lines:", *(f"    {line}" for line in tail)]),
            f"Run it by itself, in {command.cwd}.",
        )
    tree, samples = (sampler.peak, sampler.samples) if sampler else (0, 0)
    largest = spent.ru_maxrss * 1024 if sampler else 0
    return Usage(
        wall_seconds=wall,
        cpu_seconds=spent.ru_utime + spent.ru_stime,
        peak_bytes=max(tree, largest),
        tree_bytes=tree,
        largest_bytes=largest,
        samples=samples,
    )


def tree_memory(root: int) -> int:
    """Return the bytes of memory that a process and its descendants hold now.

    Proportional set size, so that pages which several of them share count once; resident set size
    for a process whose map this user may not read. Processes that end meanwhile count as 0.
    """
    return sum(_process_memory(pid) for pid in _descendants(root))


def describe_machine() -> dict[str, str]:
    """Return the processor, how many of them, memory and kernel, in words."""
    name = "unknown"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": name,
        "processors": str(len(os.sched_getaffinity(0))),
        "memory": f"{pages / 1e9:.1f} GB",
        "system": f"{os.uname().sysname} {os.uname().release}",
    }


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:  # noqa: PTH123
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry))
    tree = [root]
    for pid in tree:
        tree.extend(children.get(pid, ()))
    return tree


def _process_memory(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class _Sampler:
    """A thread that keeps the highest memory of a process tree until it is stopped."""

    def __init__(self, root: int) -> None:
        self.peak = 0
        self.samples = 0
        self._root = root
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; peak and samples are final afterwards."""
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            before = time.perf_counter()
            self.peak = max(self.peak, tree_memory(self._root))
            self.samples += 1
            cost = time.perf_counter() - before
            pause = max(_SHORTEST_PAUSE, cost / _SHARE_OF_SAMPLING)


def require_rounds(rounds: int) -> None:
    """Raise UsageError where there is nothing to measure."""
    if rounds < 1:
        raise UsageError("A bench needs at least one round.", "", "Give --rounds 1 or more.")
