"""The stage `calibrate`: float32 graphs look at pictures, and the ranges of activations remain.

One calibration serves every format that is quantized with static scales, in either layout. Where
the result has float16 in it, the magnitudes of all values are kept as well: float16 cannot hold
those above 65504.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.graphs.external_data import files_of
from exporters.graphs.sessions import CPU, CUDA, RuntimeFailure, Session, Tensors
from exporters.graphs.structure import read_graph
from exporters.memory import return_freed_memory
from exporters.precision.calibration import PictureReader, random_picture, resample_of
from exporters.precision.float16_range import find_observed
from exporters.precision.layers import find_layers
from exporters.precision.ranges import HistogramObserver, RangeObserver, Run, observe
from exporters.protocol import (
    BAD_INPUT,
    ENVIRONMENT_MISSING,
    Result,
    StageError,
    Step,
    report_progress,
    write_json,
)

Feed = Callable[[Run, Mapping[str, Any], NDArray[np.float32]], None]

_PROVIDERS: Final[Mapping[str, str]] = {"cpu": CPU, "cuda": CUDA}


def run(step: Step) -> Result:
    """Run the graphs on every calibration picture; write `calibration.json`.

    Parameters: `graphs` (the contract's, all), `quantized` (names of those to observe), `halved`
    (those among them whose layers get no ranges; may be left out), `op_types` (of the layers whose
    inputs get ranges), `observe` (inputs, of these layers, or tensors, all of
    float32), `calib_method` (max or entropy), `calib_size`, `use_random_calib`, `calibration_eps`,
    `preprocessing`, `options` and `pictures` (the names of the inputs, in order). A family's part
    whose graphs take more than a picture has `feed(run, params, picture)`, which runs each of them.

    Raises:
        StageError: Pictures are missing or damaged, a graph takes no picture and the family has no
            part for it, or CUDA was asked for and is not there.
    """
    return_freed_memory()
    wanted: Sequence[str] = step.param("quantized")
    golden = {graph["name"]: graph for graph in step.param("graphs")}
    files = {
        name: next(step.input(one) for one in files_of(graph)) for name, graph in golden.items()
    }
    activations = {
        name: sorted(
            {
                layer.input
                for layer in find_layers(read_graph(files[name]), step.param("op_types"))
                if not layer.reason
            }
        )
        if name not in step.params.get("halved", ())
        else []
        for name in wanted
    }
    everything = step.param("observe") == "tensors"
    values = {name: find_observed(read_graph(files[name])) if everything else [] for name in wanted}
    feed = _find_feed(step, golden, wanted)
    scratch = step.out.parent / "calibrate"
    scratch.mkdir()
    provider = _PROVIDERS[step.param("calibration_eps")[0]]
    report_progress(0.0, "loading the graphs")
    try:
        observers = {
            name: RangeObserver(
                files[name],
                activations[name],
                scratch / f"{name}-max",
                step.threads,
                provider,
                values[name],
            )
            for name in wanted
        }
    except RuntimeFailure as failure:
        raise _cannot_open(failure, provider) from failure
    others = _Others({n: f for n, f in files.items() if n not in observers}, step.threads, provider)
    entropy = step.param("calib_method") == "entropy"
    reader = _Pictures(step, _find_sides(step.param("graphs")))
    try:
        names = reader.show(feed, observe(observers, others), (0.05, 0.5 if entropy else 0.95))
    except RuntimeFailure as failure:
        raise _cannot_run(failure) from failure
    ranges = {
        name: {one: observer.largest[one] for one in activations[name]}
        for name, observer in observers.items()
    }
    idle = [name for name, one in observers.items() if not one.runs]
    if idle:
        raise AssertionError(f"no picture reached {', '.join(idle)}")
    if entropy:
        ranges |= _find_thresholds(
            step,
            files,
            {n: one for n, one in ranges.items() if one},
            reader,
            feed,
            others,
            provider,
        )
    document = {
        "method": step.param("calib_method"),
        "random": bool(step.param("use_random_calib")),
        "pictures": names,
        "skipped": reader.skipped,
        "graphs": ranges,
        "largest": {
            name: {one: _finite(observers[name].largest[one]) for one in observed}
            for name, observed in values.items()
            if observed
        },
    }
    write_json(step.out / "calibration.json", document)
    return Result(
        outputs=["calibration.json"],
        metrics={
            "pictures": len(names),
            "skipped": reader.skipped,
            "activations": {name: len(one) for name, one in ranges.items()},
            "values": {name: len(one) for name, one in values.items() if one},
            "provider": provider,
        },
    )


def _finite(value: float) -> float | None:
    """Return a magnitude as JSON has it: infinity is null."""
    return value if np.isfinite(value) else None


def _cannot_open(failure: RuntimeFailure, provider: str) -> StageError:
    said = " ".join(str(failure).split())[:500]
    if provider == CPU:
        return StageError(
            "ONNX Runtime cannot load a graph with its ranges as outputs.",
            said,
            "Verify the float32 target; if it verifies, report this.",
        )
    return StageError(
        "ONNX Runtime cannot calibrate on the GPU.",
        said,
        "Calibrate on the CPU (--calibration-eps cpu), or fix the driver: see invoke doctor.",
        exit_code=ENVIRONMENT_MISSING,
    )


def _cannot_run(failure: RuntimeFailure) -> StageError:
    return StageError(
        "ONNX Runtime cannot run a graph on a calibration picture.",
        " ".join(str(failure).split())[:500],
        "Check --image-input-dimension where the graph's sides are open; otherwise take a machine "
        "with more memory, or another of --calibration-eps.",
    )


def _find_thresholds(
    step: Step,
    files: Mapping[str, Path],
    ranges: Mapping[str, Mapping[str, float]],
    reader: "_Pictures",
    feed: Feed,
    others: Run,
    provider: str,
) -> dict[str, dict[str, float]]:
    """Return the second pass of entropy."""
    scratch = step.out.parent / "calibrate"
    try:
        counting = {
            name: HistogramObserver(
                files[name], largest, scratch / f"{name}-entropy", step.threads, provider
            )
            for name, largest in ranges.items()
        }
        reader.show(feed, observe(counting, others), (0.5, 0.9))
    except RuntimeFailure as failure:
        raise _cannot_run(failure) from failure
    report_progress(0.9, "choosing thresholds")
    return {name: one.thresholds() for name, one in counting.items()}


class _Pictures:
    """The calibration pictures of a step, as often as they are wanted."""

    def __init__(self, step: Step, sides: tuple[int, int]) -> None:
        height, width = sides
        self._params = step.params
        self._random = (
            random_picture(height, width, step.seed) if step.param("use_random_calib") else None
        )
        self._reader = PictureReader(
            {name: step.input(name) for name in step.param("pictures")},
            height=height,
            width=width,
            resample=resample_of(step.param("preprocessing")),
            count=step.param("calib_size"),
        )

    @property
    def skipped(self) -> dict[str, str]:
        return dict(self._reader.skipped)

    def show(self, feed: Feed, run: Run, share: tuple[float, float]) -> list[str]:
        """Feed every picture to the graphs; return their names."""
        names = []
        for name, picture in self._all(share):
            feed(run, self._params, picture)
            names.append(name)
        return names

    def _all(self, share: tuple[float, float]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        if self._random is not None:
            yield "random", self._random
        else:
            yield from self._reader.read(share)


class _Others:
    """The graphs that are not observed, opened when a family's part first runs them."""

    def __init__(self, files: Mapping[str, Path], threads: int, provider: str) -> None:
        self._files = files
        self._threads = threads
        self._provider = provider
        self._sessions: dict[str, Session] = {}

    def __call__(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        if graph not in self._sessions:
            self._sessions[graph] = Session(
                self._files[graph], self._threads, provider=self._provider
            )
        return self._sessions[graph].run(
            {name: inputs[name] for name in self._sessions[graph].inputs}
        )


def _find_sides(graphs: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Return the height and width of the pictures that the first graph with nothing but a picture
    takes.
    """
    for golden in graphs:
        dims = golden["inputs"][0]["dims"]
        if len(golden["inputs"]) == 1 and len(dims) == 4 and dims[1] == 3:
            return int(dims[2]), int(dims[3])
    raise StageError(
        "None of these graphs takes a picture.",
        "A picture is float32 [N, 3, height, width], and a graph's only input.",
        "Quantize graphs that look at pictures, or give their family a part for it.",
        exit_code=BAD_INPUT,
    )


def _find_feed(step: Step, golden: Mapping[str, Any], wanted: Sequence[str]) -> Feed:
    """Return the family's `feed`, or one that gives a picture to graphs which take nothing else."""
    if len(step.modules) > 1:
        part: ModuleType = step.provider()
        feed: Feed = part.feed
        return feed
    inputs = {name: [one["name"] for one in golden[name]["inputs"]] for name in wanted}
    greedy = [name for name, taken in inputs.items() if len(taken) != 1]
    if greedy:
        raise StageError(
            f"The graph {greedy[0]} takes more than a picture: {', '.join(inputs[greedy[0]])}.",
            "Its family does not say how to calibrate it.",
            "Leave it out of graphs_to_quantize.",
        )

    def show(run: Run, _: Mapping[str, Any], picture: NDArray[np.float32]) -> None:
        for name, (image,) in inputs.items():
            run(name, {image: picture})

    return show
