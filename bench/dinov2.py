"""bench.dinov2: a graph of features beside what torch.onnx.export gives, and PyTorch.

All sides start from the same weights. Our graph is built as a user builds it; the plain graphs, of
two opsets, are of timm's network as it is. Each round starts every side once, in a process of its
own, in an order that turns. Afterwards ONNX Runtime tells where it spends the time of both graphs.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import export
from bench.features import Operator, Profile, Report
from bench.process import describe_machine, require_rounds, run_measured
from bench.scripts import Contender, Scripts, find_graph

GRAPH = "features"
OPSETS = (18, 20)
EAGER = "PyTorch eager"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How it is measured.

    Attributes:
        python: The export environment's interpreter, for the scripts in bench/.
        settings: The model's, of the catalog.
        workspace: An existing folder for scratch.
        rounds: How often each side runs.
        runs: How often in each round; their median counts.
    """

    python: Path
    settings: Mapping[str, Any]
    threads: int
    workspace: Path
    rounds: int
    on_progress: export.OnProgress
    runs: int = 3

    def run(self, target: str, ours: export.Contender, weights: Callable[[Path], Path]) -> Report:
        """Measure all sides.

        Args:
            target: What ours is called.
            ours: Exports the graph, `features`.
            weights: Given the folder where that was done, the weights as safetensors.

        Raises:
            UsageError: `rounds` is less than 1.
            StageFailure: A command failed, or left no graph.
            VerificationFailure: The sides compute different things.
        """
        require_rounds(self.rounds)
        scripts = Scripts(
            python=self.python, workspace=self.workspace, on_progress=self.on_progress
        )
        mine, folder = self._export(ours)
        upstream = [json.dumps(dict(self.settings)), str(weights(folder))]
        plain = [self._export_plainly(scripts, upstream, opset) for opset in OPSETS]
        eager = Contender(name=EAGER, arguments=["eager", *upstream])
        graphs = [mine, *plain]
        scripts.measure(
            [*graphs, eager],
            "features",
            f"--runs={self.runs}",
            f"--threads={self.threads}",
            rounds=self.rounds,
        )
        differences = scripts.compare(eager, graphs)
        plain.sort(key=lambda one: median(one.side().run_seconds))
        told = {one.name: self._profile(scripts, one) for one in (mine, plain[0])}
        return Report(
            target=target,
            rounds=self.rounds,
            threads=self.threads,
            ours=mine.side(),
            plain=plain[0].side(),
            slower=[one.side() for one in plain[1:]],
            eager=eager.side(),
            nodes={name: one["nodes"] for name, one in told.items()},
            profiles={name: _operators(one) for name, one in told.items()},
            differences=differences,
            machine=describe_machine(),
        )

    def _export(self, ours: export.Contender) -> tuple[Contender, Path]:
        """Return our graph, and the folder that it was made in."""
        self.on_progress(f"export: {ours.name}")
        folder = self.workspace / "export"
        folder.mkdir()
        run_measured(ours.prepare(folder), self.workspace / "export.log", memory=False)
        graph = find_graph(ours, folder, GRAPH)
        return _contender(ours.name, graph), folder

    def _export_plainly(self, scripts: Scripts, upstream: list[str], opset: int) -> Contender:
        name = f"plain export, opset {opset}"
        self.on_progress(name)
        graph = self.workspace / f"plain{opset}.onnx"
        scripts.tell("plain_features", *upstream, str(graph), f"--opset={opset}")
        return _contender(name, graph)

    def _profile(self, scripts: Scripts, one: Contender) -> Any:
        self.on_progress(f"profile: {one.name}")
        graph = str(one.files[0])
        return scripts.tell("operators", graph, str(self.workspace), f"--threads={self.threads}")


def _contender(name: str, graph: Path) -> Contender:
    weights = graph.with_name(f"{graph.name}.data")
    files = [graph, weights] if weights.is_file() else [graph]
    return Contender(name=name, arguments=["onnx", str(graph)], files=files)


def _operators(told: Mapping[str, Any]) -> Profile:
    return {name: Operator(**figures) for name, figures in told["operators"].items()}
