"""The stage `compare_files`: what a quantized graph of the user's own lost, on held-out pictures.

Both graphs run in onnxruntime on the CPU, one after the other, on pictures that did not calibrate.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from exporters.checks.kernels import count_kernels
from exporters.checks.parity import Energy, compare_tensors
from exporters.checks.quality import decibels
from exporters.graphs.sessions import RuntimeFailure, Session, Tensors
from exporters.media.pictures import load_picture, preprocess
from exporters.precision.calibration import resample_of
from exporters.protocol import BAD_INPUT, NOT_VERIFIED, Result, StageError, Step, report_progress

PICTURES: Final = "pictures/"


def run(step: Step) -> Result:
    """Run both graphs on every picture, and compare all outputs that hold floats.

    Inputs: the graphs that `before` and `after` name, with their data files, and `pictures/NAME`.
    Parameters: those two, `picture` (the graph's input), `height`, `width`, `preprocessing`,
    `session` (configuration entries that the second graph needs) and `kernels` (whether to count
    integer kernels).

    The metrics hold `outputs`, a row for each with `tensor`, `snr_db` (null where nothing differs)
    and `cosine` over all pictures, `pictures`, `runtime`, `seconds` and perhaps `integer_kernels`.

    Raises:
        StageError: A graph cannot be loaded or run, or the second one's outputs are not those of
            the first, or no numbers (exit code 6; 2 where the first one's are none).
    """
    pictures = {
        name.removeprefix(PICTURES): _preprocess(step, path)
        for name, path in step.inputs.items()
        if name.startswith(PICTURES)
    }
    before, after = step.input(step.param("before")), step.input(step.param("after"))
    report_progress(0.1, "running the graph as it was")
    expected, slow = _run_all(step, before, pictures, {})
    report_progress(0.4, "running the quantized graph")
    found, fast = _run_all(step, after, pictures, step.param("session"))
    metrics: dict[str, Any] = {
        "outputs": _compare(expected, found),
        "pictures": list(pictures),
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "seconds": {"before": round(slow, 4), "after": round(fast, 4)},
    }
    if step.param("kernels"):
        report_progress(0.8, "looking for integer kernels")
        first = {step.param("picture"): next(iter(pictures.values()))}
        ran = count_kernels(after, step.threads, first)
        metrics["integer_kernels"] = ran["integer"]
    return Result(outputs=[], metrics=metrics)


def _preprocess(step: Step, path: Path) -> NDArray[np.float32]:
    resample = resample_of(step.param("preprocessing"))
    return preprocess(load_picture(path), step.param("height"), step.param("width"), resample)


def _run_all(
    step: Step,
    path: Path,
    pictures: Mapping[str, NDArray[np.float32]],
    config: Mapping[str, str],
) -> tuple[list[Tensors], float]:
    """Return a graph's outputs for every picture, and the seconds that its quickest run took."""
    try:
        session = Session(path, step.threads, config=config)
        made = [session.run({step.param("picture"): picture}) for picture in pictures.values()]
    except RuntimeFailure as failure:
        raise StageError(
            f"ONNX Runtime {onnxruntime.__version__} cannot run {path.name}.",
            str(failure)[:500],
            "Quantize fewer operators, or report this with the graph.",
            exit_code=NOT_VERIFIED,
        ) from failure
    return made, min(session.run_seconds)


def _compare(expected: Sequence[Tensors], found: Sequence[Tensors]) -> list[dict[str, Any]]:
    rows = []
    for name, first in expected[0].items():
        if first.dtype.kind != "f":
            continue
        energy = Energy()
        for wanted, made in zip(expected, found, strict=True):
            if not np.isfinite(wanted[name]).all():
                raise StageError(
                    f"The graph's output {name} holds NaN or infinite values.",
                    "They are there before the graph is quantized.",
                    "Fix the graph: nothing can be compared with such values.",
                    exit_code=BAD_INPUT,
                )
            check = compare_tensors(
                wanted[name].astype(np.float32),
                made[name].astype(np.float32),
                graph="model",
                case="",
                tensor=name,
                bound=0.0,
            )
            if not check.finite:
                raise StageError(
                    f"The quantized graph's output {name} holds NaN or infinite values.",
                    "An activation exceeds what the precision can hold.",
                    "Give --dtype fp32, or quantize fewer operators.",
                    exit_code=NOT_VERIFIED,
                )
            energy += check.energy
        rows.append({"tensor": name, "snr_db": decibels(energy.snr_db), "cosine": energy.cosine})
    return rows
