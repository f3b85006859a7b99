"""bench.engine: from a verified ONNX graph to an engine on disk, beside a short script.

Both sides build one engine in a process of its own, in turns, in the same environment: ours as the
stage does, with all that it checks; theirs with TensorRT's own API and nothing else. What is
measured begins with the process and ends with it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.engine_sides import Source
from bench.process import Command, Usage, describe_machine, require_rounds, run_measured
from modelkiln.errors import NotReproducible, VerificationFailure
from modelkiln.paths import REPOSITORY
from modelkiln.store.scratch import remove_tree
from modelkiln.util.hashing import sha256_file

SIDES = ("modelkiln", "plain script")
PLAIN = REPOSITORY / "bench" / "sides" / "engine_plain.py"

# What ours may take at most: so much of the script's wall time and, as a start of Python and of
# what is checked takes some whatever the graph, so many seconds more; and so much memory, for
# graphs of at most so many bytes.
BOUND_RATIO = 1.25
SLACK_SECONDS = 0.3
BOUND_BYTES = 1_000_000_000
LARGEST_ONNX = 250_000_000

# Bytes on the GPU at the largest shapes, bytes of weights, number of layers, version.
FACTS = ("activation_memory", "weights_memory", "layers", "tensorrt")


@dataclass(frozen=True, kw_only=True)
class Side:
    """What was measured of one side; lists hold one value per round.

    Attributes:
        parse_seconds: Until a graph is read; with us until it is checked, too.
        build_seconds: From then until the engine is written.
        digests: SHA-256 of the engine's file.
        sizes: Its bytes.
        facts: What TensorRT says of the engine, and its version: `FACTS`.
    """

    usage: Sequence[Usage]
    parse_seconds: Sequence[float]
    build_seconds: Sequence[float]
    digests: Sequence[str]
    sizes: Sequence[int]
    facts: Sequence[Mapping[str, Any]]

    @property
    def wall_seconds(self) -> list[float]:
        """From the start of the process to its end."""
        return [one.wall_seconds for one in self.usage]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One graph, built by both sides.

    Attributes:
        fixed: Whether its shapes are, so that the bytes of its engine are promised.
        onnx_bytes: Of its ONNX files.
    """

    name: str
    fixed: bool
    onnx_bytes: int
    ours: Side
    theirs: Side

    @property
    def longer(self) -> float:
        """Seconds above the bound on the ratio: the median of the rounds' differences, so that
        what slows both of a round down cancels.
        """
        pairs = zip(self.ours.wall_seconds, self.theirs.wall_seconds, strict=True)
        return median(mine - BOUND_RATIO * other for mine, other in pairs)

    @property
    def fast(self) -> bool:
        """Whether ours takes as long as is promised."""
        return self.longer <= SLACK_SECONDS

    @property
    def small(self) -> bool | None:
        """Whether ours takes no more memory than is promised; None where nothing is."""
        if self.onnx_bytes > LARGEST_ONNX:
            return None
        return max(one.peak_bytes for one in self.ours.usage) <= BOUND_BYTES

    @property
    def ok(self) -> bool:
        """Whether all that is promised holds."""
        return self.fast and self.small is not False


@dataclass(frozen=True, kw_only=True)
class Report:
    """All graphs of a target.

    Attributes:
        source: The target whose graphs engines are built from.
        weights: Which they are, in a word.
        machine: What it was measured on, for people.
    """

    target: str
    source: str
    weights: str
    rounds: int
    graphs: Sequence[Graph]
    machine: Mapping[str, str]

    @property
    def tensorrt(self) -> str:
        """Its version."""
        return str(self.graphs[0].ours.facts[0]["tensorrt"])

    @property
    def ok(self) -> bool:
        """Whether all that is promised holds."""
        return all(one.ok for one in self.graphs)

    def document(self) -> dict[str, object]:
        """Return all that was measured, as JSON."""
        return {
            **asdict(self),
            "tensorrt": self.tensorrt,
            "bound_ratio": BOUND_RATIO,
            "slack_seconds": SLACK_SECONDS,
            "bound_bytes": BOUND_BYTES,
            "graphs": [{**asdict(one), "ok": one.ok} for one in self.graphs],
            "ok": self.ok,
        }


@dataclass(frozen=True, kw_only=True)
class _Built:
    usage: Usage
    told: Mapping[str, Any]
    digest: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Builds and measures.

    Attributes:
        python: The interpreter of the target's environment.
        workspace: An existing folder for what is built.
        rounds: How often each side builds each graph.
    """

    python: Path
    workspace: Path
    rounds: int
    on_progress: Callable[[str], None]

    def run(self, source: Source) -> Report:
        """Build the engine of every graph with both sides, in turns.

        Raises:
            UsageError: `rounds` is less than 1.
            StageFailure: A side failed.
            NotReproducible: Shapes are fixed, and the sides' or the rounds' engines differ.
            VerificationFailure: The sides' engines are not of the same network.
        """
        require_rounds(self.rounds)
        return Report(
            target=source.target,
            source=source.made_from,
            weights=source.weights,
            rounds=self.rounds,
            graphs=[self._measure(source, name) for name in source.graphs],
            machine=describe_machine(),
        )

    def _measure(self, source: Source, name: str) -> Graph:
        taken: dict[str, list[_Built]] = {side: [] for side in SIDES}
        for number in range(self.rounds):
            # Each goes first every other time: the second finds warmer caches.
            for side in SIDES if number % 2 == 0 else reversed(SIDES):
                self.on_progress(f"{name} {number + 1}/{self.rounds}: {side}")
                built = self._build(source, name, side)
                taken[side].append(built)
                self.on_progress(f"    {built.usage.wall_seconds:.1f} s")
        ours, theirs = (_gather(taken[side]) for side in SIDES)
        graph = Graph(
            name=name,
            fixed=source.is_fixed(name),
            onnx_bytes=sum(one.stat().st_size for one in source.files(name)),
            ours=ours,
            theirs=theirs,
        )
        require_alike(graph)
        return graph

    def _build(self, source: Source, name: str, side: str) -> _Built:
        folder = self.workspace / "one"
        folder.mkdir()
        told = folder / "told.json"
        if side == SIDES[0]:
            told.write_text(json.dumps(source.step(name)), encoding="utf-8")
            out = folder / "out"
            engine = out / source.engine(name)
            words = ("-m", "bench.sides.engine", str(told), str(out))
        else:
            told.write_text(json.dumps(source.settings(name)), encoding="utf-8")
            engine = folder / source.engine(name)
            words = (str(PLAIN), str(told), str(source.files(name)[0]), str(engine))
        log = folder / "log"
        command = Command(
            argv=(str(self.python), *words),
            cwd=REPOSITORY,
            environment={"PYTHONDONTWRITEBYTECODE": "1"},
        )
        usage = run_measured(command, log)
        built = _Built(
            usage=usage,
            told=json.loads(log.read_text(encoding="utf-8").splitlines()[-1]),
            digest=sha256_file(engine),
            size=engine.stat().st_size,
        )
        remove_tree(folder)
        return built


def _gather(built: Sequence[_Built]) -> Side:
    return Side(
        usage=[one.usage for one in built],
        parse_seconds=[one.told["parse_seconds"] for one in built],
        build_seconds=[one.told["build_seconds"] for one in built],
        digests=[one.digest for one in built],
        sizes=[one.size for one in built],
        facts=[{name: one.told[name] for name in FACTS} for one in built],
    )


def require_alike(graph: Graph) -> None:
    """Raise where the sides did not build the same engine.

    Raises:
        NotReproducible: Shapes are fixed, and the bytes differ.
        VerificationFailure: TensorRT says other things of one engine than of another.
    """
    facts = [*graph.ours.facts, *graph.theirs.facts]
    if any(one != facts[0] for one in facts):
        raise VerificationFailure(
            f"The sides of the bench do not build the same engine of {graph.name}.",
            f"TensorRT says {graph.ours.facts} of ours and {graph.theirs.facts} of the script's.",
            f"Compare exporters/tensorrt/build.py with {PLAIN.relative_to(REPOSITORY)}.",
        )
    digests = {*graph.ours.digests, *graph.theirs.digests}
    if graph.fixed and len(digests) > 1:
        mine, other = _shorten(graph.ours.digests), _shorten(graph.theirs.digests)
        raise NotReproducible(
            f"The engines of {graph.name} differ, although its shapes are fixed.",
            f"Ours have the digests {mine}, and the script's {other}.",
            "invoke reproduce TARGET tells whether two of our own builds differ.",
        )


def _shorten(digests: Sequence[str]) -> str:
    return ", ".join(one[:12] for one in digests)
