"""bench.tracker: the tracker's memory attention beside the public exporter's way, and PyTorch.

All sides start from the same weights. First the four graphs of the contract are exported as a user
does it; then each round starts every side once, in a process of its own, in an order that turns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import export
from bench.attention import FRAMES, POINTERS, Report
from bench.process import Usage, describe_machine, require_rounds, run_measured
from bench.scripts import Contender, Scripts, find_graph
from modelkiln.store.scratch import remove_tree

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
    on_progress: export.OnProgress

    def run(self, model: str, ours: export.Contender, weights: Callable[[Path], Path]) -> Report:
        """Measure all sides.

        Args:
            ours: Exports the four graphs; `memory_attention` is among them.
            weights: Given the folder where that was done, the weights as safetensors.

        Raises:
            UsageError: `rounds` is less than 1.
            StageFailure: A command failed, or left no graph.
            VerificationFailure: The sides compute different things.
        """
        require_rounds(self.rounds)
        usage, folder = self._export(ours)
        graph = find_graph(ours, folder, GRAPH)
        self.on_progress(f"the graph of {PUBLIC}")
        scripts = Scripts(
            python=self.python, workspace=self.workspace, on_progress=self.on_progress
        )
        overrides = [f"--override={one}" for one in self.overrides]
        upstream = [self.config, str(weights(folder))]
        public = self.workspace / "public.onnx"
        facts = scripts.tell("public_attention", *upstream, str(public), *overrides)
        contenders = [
            Contender(name=ours.name, arguments=["onnx", str(graph)], files=[graph]),
            Contender(name=PUBLIC, arguments=["onnx", str(public)], files=[public]),
            Contender(name=EAGER, arguments=["eager", *upstream, *overrides]),
        ]
        flags = (f"--frames={FRAMES}", f"--pointers={POINTERS}", f"--threads={self.threads}")
        scripts.measure(contenders, "attention", *flags, rounds=self.rounds)
        *graphs, eager = contenders
        differences = scripts.compare(eager, graphs)
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

    def _export(self, ours: export.Contender) -> tuple[list[Usage], Path]:
        """Return what each export took, and the folder of the last."""
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
