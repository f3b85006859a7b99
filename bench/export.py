"""bench.export: checkpoint on disk to simplified graphs on disk, beside another exporter.

Both sides start as their users start them, in turns, each time in an empty folder; process start is
included and verification is not (it is timed apart). Then the graphs of both run side by side.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.comparison import GRAPHS, Report, Side
from bench.process import Command, Usage, describe_machine, require_rounds, run_measured
from modelkiln.errors import StageFailure
from modelkiln.paths import REPOSITORY
from modelkiln.store.scratch import remove_tree

LATENCY = REPOSITORY / "bench" / "sides" / "latency.py"

OnProgress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One side of the comparison.

    Attributes:
        prepare: Given a new empty folder, the command that leaves simplified graphs below it.
        graphs: Given that folder afterwards, the graphs by name (`encoder`, `decoder`).
        verify: Given that folder afterwards, the command that verifies what is there, if there is
            one; it is timed once, apart.
    """

    name: str
    prepare: Callable[[Path], Command]
    graphs: Callable[[Path], Mapping[str, Path]]
    verify: Callable[[Path], Command] | None = None


def compare_exporters(
    ours: Contender,
    theirs: Contender,
    *,
    model: str,
    python: Path,
    workspace: Path,
    rounds: int = 3,
    latency_rounds: int = 7,
    threads: int = 2,
    on_progress: OnProgress,
) -> Report:
    """Measure both sides in turns, then their graphs.

    Args:
        python: The export environment's interpreter, for bench/sides/latency.py.
        workspace: An existing folder for scratch; a round's folder is removed when its graphs have
            been kept.
        rounds: How often each side exports.
        latency_rounds: How often each graph is opened and run.

    Raises:
        UsageError: `rounds` or `latency_rounds` is less than 1.
        StageFailure: A command failed, or left no graphs.
    """
    require_rounds(min(rounds, latency_rounds))
    sides = (ours, theirs)
    usage: list[list[Usage]] = [[], []]
    kept: list[Mapping[str, Path]] = [{}, {}]
    verification: list[float | None] = [None, None]
    for number in range(rounds):
        for index in (0, 1) if number % 2 == 0 else (1, 0):
            side = sides[index]
            on_progress(f"export {number + 1}/{rounds}: {side.name}")
            folder = workspace / f"round{number}-{index}"
            folder.mkdir()
            usage[index].append(run_measured(side.prepare(folder), workspace / f"{index}.log"))
            on_progress(f"    {usage[index][-1].wall_seconds:.1f} s")
            if number == rounds - 1:
                kept[index] = _keep(side, folder, workspace / f"graphs{index}")
                if side.verify:
                    on_progress(f"verification: {side.name}")
                    spent = run_measured(side.verify(folder), workspace / f"{index}.log")
                    verification[index] = spent.wall_seconds
            remove_tree(folder)
    latency = {}
    for name in GRAPHS:
        on_progress(f"latency of the {name}s")
        pair = [kept[0][name], kept[1][name]]
        latency[name] = _measure_latency(pair, python, workspace, latency_rounds, threads)
    measured = [
        Side(
            name=side.name,
            usage=usage[index],
            verification_seconds=verification[index],
            bytes={name: one.bytes[index] for name, one in latency.items()},
            load_seconds={name: one.load_seconds[index] for name, one in latency.items()},
            run_seconds={name: one.run_seconds[index] for name, one in latency.items()},
        )
        for index, side in enumerate(sides)
    ]
    return Report(
        model=model,
        rounds=rounds,
        latency_rounds=latency_rounds,
        threads=threads,
        runtime=latency[GRAPHS[0]].runtime,
        ours=measured[0],
        theirs=measured[1],
        differences={name: one.differences for name, one in latency.items()},
        machine=describe_machine(),
    )


def _keep(side: Contender, folder: Path, place: Path) -> Mapping[str, Path]:
    import shutil

    place.mkdir()
    kept = {}
    for name, path in side.graphs(folder).items():
        if not path.is_file():
            raise StageFailure(
                f"{side.name} left no {name}.",
                f"{path} is not there.",
                "Run its command by itself and look at what it says.",
            )
        kept[name] = place / f"{name}.onnx"
        shutil.copyfile(path, kept[name])
    return kept


@dataclass(frozen=True, kw_only=True)
class _Latency:
    runtime: str
    bytes: Sequence[int]
    load_seconds: Sequence[Sequence[float]]
    run_seconds: Sequence[Sequence[float]]
    differences: Mapping[str, float]


def _measure_latency(
    graphs: Sequence[Path], python: Path, workspace: Path, rounds: int, threads: int
) -> _Latency:
    log = workspace / "latency.log"
    command = Command(
        argv=(
            str(python),
            str(LATENCY),
            *(f"{index}={path}" for index, path in enumerate(graphs)),
            f"--rounds={rounds}",
            f"--threads={threads}",
        ),
        cwd=workspace,
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    run_measured(command, log, memory=False)
    told = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    sides = [told["graphs"][str(index)] for index in range(len(graphs))]
    return _Latency(
        runtime=told["runtime"],
        bytes=[side["bytes"] for side in sides],
        load_seconds=[side["load_seconds"] for side in sides],
        run_seconds=[side["run_seconds"] for side in sides],
        differences=told["differences"],
    )
