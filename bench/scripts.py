"""Sides of a bench as scripts of bench/, each started once a round in a process of its own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import export
from bench.measured import APART, Side
from bench.process import Command, run_measured
from modelkiln.errors import StageFailure, VerificationFailure
from modelkiln.paths import REPOSITORY


def find_graph(side: export.Contender, folder: Path, name: str) -> Path:
    """Return a graph that a side has left in a folder; StageFailure where it has not."""
    graph = side.graphs(folder).get(name)
    if graph is None or not graph.is_file():
        raise StageFailure(
            f"{side.name} left no {name}.",
            f"The folder is {folder}.",
            "Run its command by itself and look at what it says.",
        )
    return graph


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What a script is told to run, and what it told of each round.

    Attributes:
        arguments: Of the script, before the file for its output.
        files: The graph's; none for PyTorch.
    """

    name: str
    arguments: Sequence[str]
    files: Sequence[Path] = ()
    told: list[Any] = field(default_factory=list)

    def side(self) -> Side:
        """Return its figures."""
        loads = [one["load_seconds"] for one in self.told]
        return Side(
            name=self.name,
            runtime=self.told[0]["runtime"],
            run_seconds=[one["run_seconds"] for one in self.told],
            peak_bytes=[one["peak_bytes"] for one in self.told],
            load_seconds=[one for one in loads if one is not None],
            file_bytes=sum(one.stat().st_size for one in self.files) if self.files else None,
        )


@dataclass(frozen=True, kw_only=True)
class Scripts:
    """Runs the scripts of bench/.

    Attributes:
        python: The export environment's interpreter.
        workspace: An existing folder for logs and outputs.
    """

    python: Path
    workspace: Path
    on_progress: export.OnProgress

    def tell(self, script: str, *arguments: str) -> Any:
        """Run a script; what its last line says.

        Raises:
            StageFailure: It failed.
        """
        log = self.workspace / f"{script}.log"
        command = Command(
            argv=(str(self.python), "-m", f"bench.sides.{script}", *arguments),
            cwd=REPOSITORY,
            environment={"PYTHONDONTWRITEBYTECODE": "1"},
        )
        run_measured(command, log, memory=False)
        return json.loads(log.read_text(encoding="utf-8").splitlines()[-1])

    def measure(
        self, contenders: Sequence[Contender], script: str, *flags: str, rounds: int
    ) -> None:
        """Run all of them with one script in every round, in an order that turns."""
        order = list(contenders)
        for number in range(rounds):
            for one in order:
                self.on_progress(f"round {number + 1}/{rounds}: {one.name}")
                told = self.tell(script, *one.arguments, str(self._output(one)), *flags)
                one.told.append(told)
                self.on_progress(f"    {told['run_seconds']:.2f} s")
            order = order[1:] + order[:1]

    def compare(self, wanted: Contender, graphs: Sequence[Contender]) -> Mapping[str, float]:
        """Return how far the graphs' outputs are from one that is right, relative to its largest
        value.

        Raises:
            VerificationFailure: One is further than 1e-5.
        """
        told = self.tell("agreement", *(str(self._output(one)) for one in (wanted, *graphs)))
        found = dict(zip((one.name for one in graphs), told["differences"], strict=True))
        far = [name for name, apart in found.items() if not apart <= APART]
        if far:
            raise VerificationFailure(
                f"The sides of the bench do not compute the same: {', '.join(far)}.",
                f"From {wanted.name}'s output, relative to its largest value: {found}.",
                "invoke verify checks our graphs; bench/ has the other sides.",
            )
        return found

    def _output(self, one: Contender) -> Path:
        return self.workspace / f"{one.name.replace(' ', '-')}.npy"
