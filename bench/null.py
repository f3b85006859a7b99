"""bench.null: how long a build with nothing to do takes, beside make and a bare Python."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench.chart import Bar, Chart, write_page
from bench.process import Command, describe_machine, require_rounds, run_measured

BOUND_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A command that has nothing to do.

    Attributes:
        ours: Whether the bound is on this one.
    """

    name: str
    command: Command
    ours: bool = False


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds from command start to exit, one per round."""

    name: str
    ours: bool
    seconds: Sequence[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.seconds)

    @property
    def ok(self) -> bool:
        """Whether it keeps the bound, where there is one."""
        return not self.ours or self.median <= BOUND_SECONDS


@dataclass(frozen=True, kw_only=True)
class Report:
    """All commands, measured in turns."""

    rounds: int
    times: Sequence[Times]
    machine: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether every build with nothing to do keeps the bound."""
        return all(one.ok for one in self.times)

    def document(self) -> dict[str, object]:
        """Return all that was measured, as JSON."""
        times = [{**asdict(one), "median": one.median, "ok": one.ok} for one in self.times]
        return {
            "rounds": self.rounds,
            "bound_seconds": BOUND_SECONDS,
            "times": times,
            "machine": self.machine,
            "ok": self.ok,
        }


def make_runner(folder: Path, steps: int) -> Runner:
    """Run GNU make with as many steps as the build has, in a chain, all of them done.

    Args:
        folder: An existing folder, for the Makefile, one source and one file per step.

    Raises:
        StageFailure, EnvironmentFailure: make fails, or is not installed.
    """
    rules = [f"all: step{steps}"]
    rules += [
        f"step{number}: {f'step{number - 1}' if number > 1 else 'source'}\n\tcp $< $@"
        for number in range(1, steps + 1)
    ]
    (folder / "Makefile").write_text("\n".join(rules) + "\n", encoding="utf-8")
    (folder / "source").write_text("source\n", encoding="utf-8")
    command = Command(argv=("make", "--silent"), cwd=folder, environment={"MAKEFLAGS": ""})
    run_measured(command, folder / "make.log", memory=False)
    return Runner(name=f"make, {steps} steps", command=command)


def bare_python(python: Path, folder: Path) -> Runner:
    """Return the interpreter alone: the floor for anything written in Python."""
    return Runner(
        name="python -c pass", command=Command(argv=(str(python), "-c", "pass"), cwd=folder)
    )


def compare_starts(
    runners: Sequence[Runner],
    *,
    workspace: Path,
    rounds: int = 15,
    on_progress: Callable[[str], None],
) -> Report:
    """Run all commands in turns; one round that does not count comes before.

    Args:
        workspace: An existing folder for the logs.

    Raises:
        UsageError: `rounds` is less than 1.
        StageFailure: A command failed.
    """
    require_rounds(rounds)
    seconds: list[list[float]] = [[] for _ in runners]
    for number in range(rounds + 1):
        on_progress(f"round {number}/{rounds}" if number else "warming up")
        for index, runner in enumerate(runners):
            usage = run_measured(runner.command, workspace / f"{index}.log", memory=False)
            if number:
                seconds[index].append(usage.wall_seconds)
    return Report(
        rounds=rounds,
        times=[
            Times(name=runner.name, ours=runner.ours, seconds=taken)
            for runner, taken in zip(runners, seconds, strict=True)
        ],
        machine=describe_machine(),
    )


def table(report: Report) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return titles and rows for the terminal."""
    rows = [
        (
            one.name,
            _text(one.median),
            _text(min(one.seconds)),
            _text(max(one.seconds)),
            _promise(one),
        )
        for one in report.times
    ]
    return ("", "median", "fastest", "slowest", "promised"), rows


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write null.json and null.html into a folder and return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "null.json"
    data.write_text(json.dumps(report.document(), indent=1) + "\n", encoding="utf-8")
    bars = [
        Bar(label=one.name, value=one.median, text=_text(one.median), ours=one.ours)
        for one in report.times
    ]
    page = write_page(
        folder / "null.html",
        title="A build with nothing to do",
        lead="Shorter is better; the dashed line is what modelkiln promises.",
        charts=[Chart(title="from command start to exit, median", bars=bars, mark=BOUND_SECONDS)],
        facts=[("rounds", f"{report.rounds}, in turns"), *report.machine.items()],
    )
    return data, page


def _text(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _promise(one: Times) -> str:
    if not one.ours:
        return "-"
    return f"<= {_text(BOUND_SECONDS)} {'ok' if one.ok else 'MISSED'}"
