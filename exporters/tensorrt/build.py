"""An engine from a parsed network."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from exporters.protocol import StageError, as_sentence
from exporters.tensorrt.flavours import Flavour
from exporters.tensorrt.header import PORTABLE
from exporters.tensorrt.network import Network
from exporters.tensorrt.refusals import explain
from exporters.tensorrt.signature import Shapes, find_shape_faults

STOPPED: Final = 130
# TensorRT's words, by ours.
VERBOSITIES: Final = {
    "none": "NONE",
    "layer-names": "LAYER_NAMES_ONLY",
    "detailed": "DETAILED",
}

OnFraction = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What builds an engine, and for what; all of it is in its bytes.

    Attributes:
        flavour: The one whose bindings parsed the network.
        gpus: Compute capabilities, such as `sm89`; or `portable` alone; none where the flavour
            names no GPUs, and builds for the one that is there.
        tf32: Whether float32 products may round to TF32, which has ten bits of mantissa.
        verbosity: How much of its layers the engine tells an inspector: one of `VERBOSITIES`.
    """

    flavour: Flavour
    gpus: Sequence[str]
    tf32: bool
    verbosity: str


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What an engine takes of a GPU, as its builder says, in bytes, at its largest shapes."""

    activation: int
    weights: int


def apply_shapes(network: Network, shapes: Shapes, shown: str) -> None:
    """Give inputs the dims of which the shapes leave no choice, having checked all shapes.

    Args:
        network: A parsed graph.
        shapes: For each input with open dims, min, opt and max of all its dims.
        shown: What errors call it.

    Raises:
        StageError: They do not fit the network.
    """
    if faults := find_shape_faults(network.inputs, shapes):
        raise StageError(
            f"The shapes of {shown} do not fit its graph.",
            as_sentence("; ".join(faults)),
            "Correct them with --profile, or in the contract's [profile].",
        )
    for name, (low, _, high) in shapes.items():
        network.fix(name, [a if a == c else -1 for a, c in zip(low, high, strict=True)])


def build_engine(
    network: Network,
    shapes: Shapes,
    settings: Settings,
    path: Path,
    shown: str,
    on_fraction: OnFraction,
) -> Memory:
    """Build an engine and write it.

    Args:
        network: A parsed graph, with its shapes applied.
        shapes: As they were applied.
        settings: What it is built for.
        path: Where it is written, once it is whole.
        shown: What errors call it.
        on_fraction: Told how far it is, 0 to 1, and what TensorRT is at.

    Raises:
        StageError: The compiler refuses it, the flavour names no GPUs and the settings do, or the
            process was asked to end (exit code 130).
    """
    network.log.listen()
    config = _configure(network, shapes, settings, shown)
    with _stopping_at_signals() as stopping:
        progress = Progress(on_fraction)
        config.progress_monitor = _make_monitor(network.trt, progress, stopping)
        plan = network.builder.build_serialized_network(network.definition, config)
        if stopping:
            raise StageError(
                f"The build of {shown} was stopped.",
                "The process was asked to end.",
                "Run the command again.",
                exit_code=STOPPED,
            )
    if plan is None:
        gpus = ", ".join(settings.gpus)
        raise explain(f"TensorRT's compiler does not take {shown} for {gpus}.", network.log.said())
    missing = {"activation", "weights"} - network.log.memory.keys()
    if missing:
        raise StageError(
            f"TensorRT did not say how much memory {shown} takes.",
            f"Its log has no line for {' and '.join(sorted(missing))}.",
            "Report this with the step's log: TensorRT's words have changed.",
        )
    with path.open("xb") as file:
        file.write(memoryview(plan))
    return Memory(**network.log.memory)


def _configure(network: Network, shapes: Shapes, settings: Settings, shown: str) -> Any:
    trt = network.trt
    config = network.builder.create_builder_config()
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, VERBOSITIES[settings.verbosity])
    if settings.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    if not settings.flavour.names_gpus:
        _require_no_gpus(settings, shown)
    elif list(settings.gpus) != [PORTABLE]:
        config.num_compute_capabilities = len(settings.gpus)
        for index, name in enumerate(settings.gpus):
            config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), index)
    ranged = {
        name: (tuple(low), tuple(opt), tuple(high))
        for name, (low, opt, high) in shapes.items()
        if list(low) != list(high)
    }
    if ranged:
        profile = network.builder.create_optimization_profile()
        for name, limits in ranged.items():
            profile.set_shape(name, *limits)
        if config.add_optimization_profile(profile) < 0:
            raise explain(f"TensorRT does not take the shapes of {shown}.", network.log.said())
    return config


def _require_no_gpus(settings: Settings, shown: str) -> None:
    if settings.gpus:
        raise StageError(
            f"{shown} cannot be built for {', '.join(settings.gpus)}.",
            f"{settings.flavour.title} builds for the GPU of its machine alone.",
            "Build it on a machine with the GPU that is to run it, without --gpu.",
        )


@dataclass
class _Phase:
    """A phase of a build that runs: its steps, those done, and the share of the one under way."""

    steps: int
    parent: str | None
    done: int = 0
    inner: float = 0.0

    @property
    def fraction(self) -> float:
        return min(1.0, (self.done + self.inner) / max(1, self.steps))


@dataclass
class Progress:
    """How far a build is, from TensorRT's phases, which nest."""

    on_fraction: OnFraction
    _phases: dict[str, _Phase] = field(default_factory=dict)
    _told: float = -1.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Take the start of a phase."""
        self._phases[name] = _Phase(steps=steps, parent=parent or None)
        self._tell(name)

    def step(self, name: str, step: int) -> None:
        """Take the end of a phase's step, counted from 0."""
        if (phase := self._phases.get(name)) is not None:
            phase.done, phase.inner = step + 1, 0.0
            self._tell(name)

    def finish(self, name: str) -> None:
        """Take the end of a phase."""
        self._phases.pop(name, None)

    def _tell(self, name: str) -> None:
        at: str | None = name
        fraction = 0.0
        while at is not None and (phase := self._phases.get(at)) is not None:
            if at != name:
                phase.inner = fraction
            fraction, at = phase.fraction, phase.parent
        # A line for every hundredth will do: there are thousands of steps.
        if fraction >= self._told + 0.01:
            self._told = fraction
            self.on_fraction(fraction, name)


def _make_monitor(trt: Any, progress: Progress, stopping: list[int]) -> Any:
    # The base class comes with the bindings.
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            progress.start(name, parent, steps)

        def step_complete(self, name: str, step: int) -> bool:
            progress.step(name, step)
            return not stopping

        def phase_finish(self, name: str) -> None:
            progress.finish(name)

    return Monitor()


@contextmanager
def _stopping_at_signals() -> Iterator[list[int]]:
    """Yield a list that a signal to end fills; the build looks at it after each of its steps."""
    stopping: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        stopping.append(number)

    before = {one: signal.signal(one, note) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
