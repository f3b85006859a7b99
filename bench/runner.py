"""bench.runner: what a stage costs more in a container than as a process of this machine."""

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench import null
from bench.chart import Bar, Chart, write_page
from bench.process import describe_machine, require_rounds
from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import make_plan
from modelkiln.errors import NotReproducible
from modelkiln.paths import REPOSITORY
from modelkiln.runners.base import Runner
from modelkiln.runners.job import Job, Outcome
from modelkiln.util.hashing import sha256_file

BOUND_SECONDS = 1.0
NOTHING = REPOSITORY / "bench" / "sides" / "nothing.py"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds that one stage takes under each runner, one per round.

    Attributes:
        local: As a process.
        docker: In a container, from before it is made until it is removed.
    """

    stage: str
    local: Sequence[float]
    docker: Sequence[float]

    @property
    def overhead(self) -> float:
        """Median over the rounds of the difference: what slows both of a round down cancels."""
        return median(sealed - plain for sealed, plain in zip(self.docker, self.local, strict=True))

    @property
    def ok(self) -> bool:
        """Whether the container costs no more than is promised."""
        return self.overhead <= BOUND_SECONDS


@dataclass(frozen=True, kw_only=True)
class Report:
    """All stages under both runners, and builds that have nothing to do.

    Attributes:
        engine: Which one, with its version.
        asked: How often those builds called the engine.
        machine: What it was measured on, for people.
    """

    rounds: int
    engine: str
    costs: Sequence[Cost]
    nothing: Sequence[null.Times]
    asked: int
    machine: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether all that is promised holds."""
        stages = all(one.ok for one in self.costs)
        return stages and all(one.ok for one in self.nothing) and not self.asked

    def document(self) -> dict[str, object]:
        """Return all that was measured, as JSON."""
        return {
            "rounds": self.rounds,
            "engine": self.engine,
            "bound_seconds": BOUND_SECONDS,
            "stages": [
                {**asdict(one), "overhead": one.overhead, "ok": one.ok} for one in self.costs
            ],
            "nothing_to_do": [
                {**asdict(one), "median": one.median, "ok": one.ok} for one in self.nothing
            ],
            "engine_asked": self.asked,
            "machine": dict(self.machine),
            "ok": self.ok,
        }


def make_empty_job(kiln: Kiln, environment: str) -> Job:
    """Return a stage that does nothing: what is left is what starting and ending one costs."""
    rest = kiln.sources.closure(("exporters.protocol",))
    return Job(
        name="an empty stage",
        environment=environment,
        stage="nothing",
        modules=("exporters.nothing",),
        params={},
        inputs={},
        sources={**rest, "exporters/nothing.py": NOTHING},
        threads=kiln.catalog.threads,
        seed=kiln.catalog.seed,
        timeout_s=60,
        cpus=1,
        memory=500_000_000,
    )


def make_ingest_job(kiln: Kiln, target: str) -> Job:
    """Return the first step of a target with random weights: it needs no input.

    Raises:
        UsageError: There is no such target.
    """
    (step,) = make_plan(kiln, kiln.targets(target), "ingest").steps.values()
    return Job(
        name=step.id,
        environment=step.environment,
        stage=step.stage,
        modules=step.modules,
        params=step.params,
        inputs={},
        sources=kiln.sources.closure(step.modules),
        threads=kiln.catalog.threads,
        seed=kiln.catalog.seed,
        timeout_s=step.timeout_s,
        cpus=step.cpus,
        memory=step.memory,
        gpu=step.gpu,
    )


def compare_runners(
    local: Runner,
    docker: Runner,
    jobs: Sequence[Job],
    *,
    scratch: Callable[[], Path],
    discard: Callable[[Path], None],
    rounds: int,
    on_progress: Callable[[str], None],
) -> list[Cost]:
    """Run every job under both runners in turns; a round that does not count comes before.

    Args:
        scratch: Makes an empty folder for a job; `discard` removes it.

    Raises:
        UsageError: `rounds` is less than 1.
        NotReproducible: The runners' outputs differ.
        KilnError: A job failed.
    """
    require_rounds(rounds)

    def measure(runner: Runner, job: Job, read: bool) -> tuple[float, Mapping[str, str]]:
        folder = scratch()
        try:
            began = time.perf_counter()
            outcome = runner.run(job, folder, lambda *_: None)
            seconds = time.perf_counter() - began
            return seconds, _digests(outcome) if read else {}
        except KeyboardInterrupt:
            runner.stop(kill=True)
            raise
        finally:
            discard(folder)

    taken: dict[str, dict[str, list[float]]] = {
        job.name: {runner.name: [] for runner in (local, docker)} for job in jobs
    }
    for number in range(rounds + 1):
        on_progress(f"round {number}/{rounds}" if number else "warming up")
        for job in jobs:
            # Each goes first every other time: the second finds warmer caches.
            order = (local, docker) if number % 2 else (docker, local)
            results = {one.name: measure(one, job, read=not number) for one in order}
            if number:
                for name, (seconds, _) in results.items():
                    taken[job.name][name].append(seconds)
            elif results[local.name][1] != results[docker.name][1]:
                raise NotReproducible(
                    f"{job.name} gives other bytes in a container.",
                    "The image and the environment of this machine are not the same.",
                    "invoke reproduce TARGET --runner docker shows which files differ.",
                )
    return [
        Cost(stage=job.name, local=taken[job.name][local.name], docker=taken[job.name][docker.name])
        for job in jobs
    ]


def _digests(outcome: Outcome) -> dict[str, str]:
    return {name: sha256_file(path) for name, path in sorted(outcome.outputs.items())}


@contextmanager
def counted_engine() -> Iterator[tuple[str, list[int]]]:
    """Give a socket in the place of an engine's, which hangs up on everyone; gives its address and
    a list that grows by one with each call.
    """
    calls: list[int] = []
    # A socket's path must be short, so it cannot lie among the artifacts.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        path = os.path.join(folder, "engine.sock")  # noqa: PTH118
        server.bind(path)
        server.listen()

        def count() -> None:
            with suppress(OSError):
                while True:
                    caller, _ = server.accept()
                    calls.append(1)
                    caller.close()

        thread = threading.Thread(target=count, daemon=True)
        thread.start()
        try:
            yield f"unix://{path}", calls
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def make_report(
    rounds: int, engine: str, costs: Sequence[Cost], nothing: null.Report, asked: int
) -> Report:
    """Return what was found, on this machine."""
    return Report(
        rounds=rounds,
        engine=engine,
        costs=costs,
        nothing=nothing.times,
        asked=asked,
        machine=describe_machine(),
    )


def table(report: Report) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return titles and rows for the terminal."""
    rows = [
        (
            one.stage,
            _text(median(one.local)),
            _text(median(one.docker)),
            f"{one.overhead:+.2f} s",
            f"<= {BOUND_SECONDS:g} s more {_verdict(one.ok)}",
        )
        for one in report.costs
    ]
    for one in report.nothing:
        bound = f"<= {null.BOUND_SECONDS:g} s {_verdict(one.ok)}"
        rows.append((one.name, "", _text(one.median), "", bound))
    calls = "calls of the engine by those"
    rows.append((calls, "", str(report.asked), "", f"none {_verdict(not report.asked)}"))
    return ("", "local", "docker", "median difference", "promised"), rows


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write runner.json and runner.html into a folder and return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "runner.json"
    data.write_text(json.dumps(report.document(), indent=1) + "\n", encoding="utf-8")
    charts = []
    for one in report.costs:
        plain, sealed = median(one.local), median(one.docker)
        bars = [
            Bar(label="local", value=plain, text=_text(plain)),
            Bar(label="docker", value=sealed, text=_text(sealed), ours=True),
        ]
        charts.append(Chart(title=one.stage, bars=bars, mark=plain + BOUND_SECONDS))
    bars = [
        Bar(label=one.name, value=one.median, text=_text(one.median), ours=one.ours)
        for one in report.nothing
    ]
    charts.append(Chart(title="nothing to do", bars=bars, mark=null.BOUND_SECONDS))
    page = write_page(
        folder / "runner.html",
        title="A stage in a container",
        lead="Shorter is better; the dashed line is what modelkiln promises at most.",
        charts=charts,
        facts=[
            ("rounds", f"{report.rounds}, in turns"),
            ("engine", report.engine),
            *report.machine.items(),
        ],
    )
    return data, page


def _text(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _verdict(ok: bool) -> str:
    return "ok" if ok else "MISSED"
