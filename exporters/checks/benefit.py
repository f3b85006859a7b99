"""What a reduced precision gains over float32 on this machine: bytes, memory and time."""

import multiprocessing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.graphs.sessions import DEFAULTS, ERRORS_ALONE, Session
from exporters.protocol import StageError

Arrays = dict[str, NDArray[Any]]

WORTH: Final = 0.03
RUNS: Final = 5
FEW_RUNS: Final = 3
LONG_SECONDS: Final = 3.0

_STATUS: Final = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A graph in both precisions.

    Attributes:
        reduced: Its .onnx file.
        base: The float32 graph's.
        inputs: Inputs of one run.
    """

    reduced: Path
    base: Path
    inputs: Arrays


def measure(
    pairs: Mapping[str, Pair],
    sizes: Mapping[str, tuple[int, int]],
    threads: int,
    config: Mapping[str, str],
    providers: Mapping[str, str],
) -> dict[str, Any]:
    """Compare graphs in a reduced precision with float32's.

    Args:
        pairs: The graphs that differ.
        sizes: Of every graph of the contract the bytes of its files, reduced and float32.
        threads: How many threads onnxruntime may use.
        config: Session config entries of the reduced graphs; float32 has none.
        providers: Execution providers by the names under which they are reported.

    Returns:
        `bytes`, `fp32_bytes` and `size` (their ratio) of all files; `speed`, by provider how many
        times as fast all graphs that differ are together; `pays`, whether the files are at least
        3 % smaller or a provider is at least 3 % faster; `graphs`, the same for each graph, with
        `peak_bytes`, by how much loading it and one run on the CPU raise a process's peak.
    """
    graphs = {}
    for name, (reduced, base) in sizes.items():
        one: dict[str, Any] = {"bytes": reduced, "fp32_bytes": base}
        if name in pairs:
            pair = pairs[name]
            one["peak_bytes"] = peak_memory(pair.reduced, pair.inputs, threads, config)
            one["fp32_peak_bytes"] = peak_memory(pair.base, pair.inputs, threads)
            one["seconds"] = {
                label: _race(pair, threads, config, provider)
                for label, provider in providers.items()
            }
        graphs[name] = one
    total, base_total = (sum(column) for column in zip(*sizes.values(), strict=True))
    speed = {
        label: round(
            sum(graphs[name]["seconds"][label]["fp32"] for name in pairs)
            / sum(graphs[name]["seconds"][label]["reduced"] for name in pairs),
            4,
        )
        for label in providers
    }
    size = round(total / base_total, 4)
    return {
        "bytes": total,
        "fp32_bytes": base_total,
        "size": size,
        "speed": speed,
        "pays": does_pay(size, speed),
        "graphs": graphs,
    }


def does_pay(size: float, speed: Mapping[str, float]) -> bool:
    """Return whether something is gained: less room, or less time with any provider; 3 % count."""
    return size <= 1 - WORTH or any(one >= 1 + WORTH for one in speed.values())


def peak_memory(
    path: Path, inputs: Arrays, threads: int, config: Mapping[str, str] = DEFAULTS
) -> int:
    """Measure by how many bytes loading a graph and running it once on the CPU raise a process's
    peak.

    Raises:
        StageError: The process ended without an answer.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report_peak, args=(sender, path, inputs, threads, config))
    process.start()
    sender.close()
    try:
        return int(receiver.recv())
    except EOFError:
        process.join()
        raise StageError(
            f"The memory that {path.name} takes could not be measured.",
            f"Its process ended with status {process.exitcode}.",
            "Check whether the machine is out of memory, and build again.",
        ) from None
    finally:
        process.join()
        receiver.close()


def _report_peak(
    sender: Any, path: Path, inputs: Arrays, threads: int, config: Mapping[str, str]
) -> None:
    before = _peak()
    Session(path, threads, ERRORS_ALONE, config).run(inputs)
    sender.send(_peak() - before)
    sender.close()


def _peak() -> int:
    """Return the largest resident size so far. getrusage would count the parent's before exec,
    too.
    """
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024


def _race(pair: Pair, threads: int, config: Mapping[str, str], provider: str) -> dict[str, Any]:
    """Measure the median seconds of both, run in turn after one run each to warm up."""
    sessions = {
        "fp32": Session(pair.base, threads, ERRORS_ALONE, provider=provider),
        "reduced": Session(pair.reduced, threads, ERRORS_ALONE, config, provider),
    }
    for session in sessions.values():
        session.run(pair.inputs)
    longest = max(session.run_seconds[0] for session in sessions.values())
    runs = FEW_RUNS if longest > LONG_SECONDS else RUNS
    for _ in range(runs):
        for session in sessions.values():
            session.run(pair.inputs)
    medians = {
        name: float(np.median(session.run_seconds[1:])) for name, session in sessions.items()
    }
    return {**{name: round(one, 6) for name, one in medians.items()}, "runs": runs}
