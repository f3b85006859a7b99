"""bench.tracker: the tracker's memory attention beside the public exporter's way, and PyTorch.

All sides start from the same weights. First the four graphs of the contract are exported as a user
does it; then each round starts every side once, in a process of its own, in an order that turns.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelkiln.bench.attention import APART, FRAMES, POINTERS, Report, Side
from modelkiln.bench.export import Contender, OnProgress
from modelkiln.bench.process import Command, Usage, describe_machine, run_measured
from modelkiln.errors import StageFailure, UsageError, VerificationFailure
from modelkiln.paths import REPOSITORY
from modelkiln.scratch import remove_tree

GRAPH = "memory_attention"
PUBLIC, EAGER = "the public way", "PyTorch eager"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How it is measured.

    Attributes:
        python: The export environment's interpreter, for the scripts in bench/.
        config: Upstream's configuration of the model.
        overrides: Of that configuration.
        workspace: An existing folder for scratch.
        rounds: How often the graphs are exported, and how often each side runs.
    """

    python: Path
    config: str
    overrides: Sequence[str]
    threads: int
    workspace: Path
    rounds: int
    on_progress: OnProgress

    def run(self, model: str, ours: Contender, weights: Callable[[Path], Path]) -> Report:
        """Measures all sides.

        Args:
            ours: Exports the four graphs; `memory_attention` is among them.
            weights: Given the folder where that was done, the weights as safetensors.

        Raises:
            UsageError: `rounds` is less than 1.
            StageFailure: A command failed, or left no graph.
            VerificationFailure: The sides compute different things.
        """
        if self.rounds < 1:
            raise UsageError("A bench needs at least one round.", "", "Give --rounds 1 or more.")
        usage, folder = self._export(ours)
        graph = ours.graphs(folder).get(GRAPH)
        if graph is None or not graph.is_file():
            raise StageFailure(
                f"{ours.name} left no {GRAPH}.",
                f"The folder is {folder}.",
                "Run its command by itself and look at what it says.",
            )
        self.on_progress(f"the graph of {PUBLIC}")
        overrides = [f"--override={one}" for one in self.overrides]
        upstream = [self.config, str(weights(folder))]
        public = self.workspace / "public.onnx"
        facts = self._tell("public_attention", *upstream, str(public), *overrides)
        contenders = [
            _Contender(name=ours.name, arguments=["onnx", str(graph)], graph=graph),
            _Contender(name=PUBLIC, arguments=["onnx", str(public)], graph=public),
            _Contender(name=EAGER, arguments=["eager", *upstream, *overrides]),
        ]
        self._measure(contenders)
        differences = self._compare(contenders)
        sides = [one.side() for one in contenders]
        return Report(
            model=model,
            rounds=self.rounds,
            threads=self.threads,
            ours=sides[0],
            public=sides[1],
            eager=sides[2],
            export=usage,
            facts=facts,
            differences=differences,
            machine=describe_machine(),
        )

    def _export(self, ours: Contender) -> tuple[list[Usage], Path]:
        """What each export took, and the folder of the last."""
        usage: list[Usage] = []
        folder = self.workspace
        for number in range(self.rounds):
            if number:
                remove_tree(folder)
            self.on_progress(f"export {number + 1}/{self.rounds}")
            folder = self.workspace / f"export{number}"
            folder.mkdir()
            usage.append(run_measured(ours.prepare(folder), self.workspace / "export.log"))
            self.on_progress(f"    {usage[-1].wall_seconds:.1f} s")
        return usage, folder

    def _measure(self, contenders: Sequence["_Contender"]) -> None:
        order = list(contenders)
        for number in range(self.rounds):
            for one in order:
                self.on_progress(f"round {number + 1}/{self.rounds}: {one.name}")
                told = self._tell(
                    "attention",
                    *one.arguments,
                    str(self._output(one)),
                    f"--frames={FRAMES}",
                    f"--pointers={POINTERS}",
                    f"--threads={self.threads}",
                )
                one.told.append(told)
                self.on_progress(f"    {told['run_seconds']:.2f} s")
            order = order[1:] + order[:1]

    def _compare(self, contenders: Sequence["_Contender"]) -> dict[str, float]:
        """How far the graphs are from PyTorch."""
        *graphs, eager = contenders
        told = self._tell("agreement", *(str(self._output(one)) for one in (eager, *graphs)))
        found = dict(zip((one.name for one in graphs), told["differences"], strict=True))
        far = [name for name, apart in found.items() if not apart <= APART]
        if far:
            raise VerificationFailure(
                f"The sides of the bench do not compute the same: {', '.join(far)}.",
                f"From PyTorch's output, relative to its largest value: {found}.",
                "invoke verify checks the graphs; bench/public_attention.py is the other side.",
            )
        return found

    def _output(self, one: "_Contender") -> Path:
        return self.workspace / f"{one.name.replace(' ', '-')}.npy"

    def _tell(self, script: str, *arguments: str) -> Any:
        """Runs a script of bench/; what its last line says."""
        log = self.workspace / f"{script}.log"
        command = Command(
            argv=(str(self.python), "-m", f"bench.{script}", *arguments),
            cwd=REPOSITORY,
            environment={"PYTHONDONTWRITEBYTECODE": "1"},
        )
        run_measured(command, log, memory=False)
        return json.loads(log.read_text(encoding="utf-8").splitlines()[-1])


@dataclass(frozen=True, kw_only=True)
class _Contender:
    """What bench/attention.py is told to run, and what it told of each round."""

    name: str
    arguments: list[str]
    graph: Path | None = None
    told: list[Any] = field(default_factory=list)

    def side(self) -> Side:
        loads = [one["load_seconds"] for one in self.told]
        return Side(
            name=self.name,
            runtime=self.told[0]["runtime"],
            run_seconds=[one["run_seconds"] for one in self.told],
            peak_bytes=[one["peak_bytes"] for one in self.told],
            load_seconds=[one for one in loads if one is not None],
            file_bytes=self.graph.stat().st_size if self.graph else None,
        )
