"""The stage `verify`: graphs against their contract, a runtime, and unpatched PyTorch.

What fails here goes nowhere. `verification.json` holds every figure; times, which differ from run
to run, are only among the metrics.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from exporters.external_data import files_of, total_bytes
from exporters.golden import find_faults
from exporters.graphs import count_ops, read_graph
from exporters.parity import Check, LoopCheck, MaskCheck, TensorCheck, as_json
from exporters.protocol import (
    NOT_VERIFIED,
    Result,
    StageError,
    Step,
    report_progress,
    write_json,
)
from exporters.sessions import ERRORS_ALONE, RuntimeFailure, Session

Arrays = dict[str, NDArray[Any]]
Run = Callable[[str, Mapping[str, NDArray[Any]]], Arrays]

_COUNTED: Final = 0.5


class Reference:
    """What the stage `reference` wrote: the cases, and arrays read from the file when asked for."""

    def __init__(self, cases: Path, tensors: Path) -> None:
        self.document: Mapping[str, Any] = json.loads(cases.read_text(encoding="utf-8"))
        self._tensors: Any = safe_open(tensors, framework="numpy")

    def __getitem__(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = self._tensors.get_tensor(name)
        return array


class Runtime:
    """A session for each graph; what fails in one is a failed verification."""

    def __init__(self, files: Mapping[str, Path], threads: int) -> None:
        self.sessions: dict[str, Session] = {}
        for name, path in files.items():
            try:
                self.sessions[name] = Session(path, threads, log_level=ERRORS_ALONE)
            except RuntimeFailure as failure:
                raise _failed(
                    f"onnxruntime cannot load the graph {name}", _shorten(failure)
                ) from failure

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Runs a graph on the inputs that it knows; returns its outputs by name."""
        session = self.sessions[graph]
        feeds = {name: inputs[name] for name in session.inputs}
        try:
            return session.run(feeds)
        except RuntimeFailure as failure:
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in feeds.items())
            raise _failed(
                f"onnxruntime cannot run the graph {graph} on {shapes}", _shorten(failure)
            ) from failure


def run(step: Step) -> Result:
    """Checks every graph of a contract; writes `verification.json`.

    Parameters: `contract` (the whole golden contract) and `opset`. The family's part gives the
    checks: `check(run, contract, reference)` yields one for each tensor, mask and step of a loop.

    Raises:
        StageError: Something differs (exit code 6); names graph, case, tensor, value and bound.
    """
    contract: Mapping[str, Any] = step.param("contract")
    files: dict[str, Path] = {}
    graphs: dict[str, Any] = {}
    report_progress(0.0, "comparing the graphs with their contract")
    for golden in contract["graphs"]:
        path, *data = [step.input(name) for name in files_of(golden)]
        files[golden["name"]] = path
        model = read_graph(path)
        faults = find_faults(model, golden, contract, int(step.param("opset")), *data)
        if faults:
            raise _failed(
                f"The graph {golden['name']} is not the contract {contract['name']}'s",
                "; ".join(faults),
            )
        graphs[golden["name"]] = {
            "nodes": len(model.graph.node),
            "ops": count_ops(model),
            "bytes": total_bytes([path, *data]),
        }
        del model
    report_progress(0.1, "loading the graphs in onnxruntime")
    runtime = Runtime(files, step.threads)
    reference = Reference(step.input("cases.json"), step.input("tensors.safetensors"))
    checks = list(step.provider().check(runtime.run, contract, reference))
    document: dict[str, Any] = {
        "contract": {"name": contract["name"], "version": contract["version"]},
        "graphs": graphs,
        "tensors": [as_json(check) for check in checks if isinstance(check, TensorCheck)],
        "masks": [as_json(check) for check in checks if isinstance(check, MaskCheck)],
        "summary": summarize(checks),
    }
    loop = [as_json(check) for check in checks if isinstance(check, LoopCheck)]
    if loop:
        document["loop"] = loop
    write_json(step.out / "verification.json", document)
    require_ok(checks)
    timings = {
        name: {
            "load_seconds": round(session.load_seconds, 4),
            "run_seconds": round(float(np.median(session.run_seconds or [0.0])), 4),
            "runs": len(session.run_seconds),
        }
        for name, session in runtime.sessions.items()
    }
    return Result(outputs=["verification.json"], metrics={**document, "timings": timings})


def summarize(checks: Iterable[Check]) -> dict[str, Any]:
    """The worst figure of every output, and how masks and the steps of a loop fared."""
    worst: dict[str, TensorCheck] = {}
    masks: list[MaskCheck] = []
    steps: list[LoopCheck] = []
    for check in checks:
        if isinstance(check, MaskCheck):
            masks.append(check)
        elif isinstance(check, LoopCheck):
            steps.append(check)
        else:
            name = f"{check.graph}/{check.tensor}"
            if name not in worst or check.relative > worst[name].relative:
                worst[name] = check
    counted = [mask for mask in masks if mask.counted]
    summary = {
        "worst": {name: as_json(check) for name, check in sorted(worst.items())},
        "masks": len(masks),
        "masks_counted": len(counted),
        "lowest_iou": min((mask.iou for mask in counted), default=None),
    }
    return {**summary, "loop": _summarize_loop(steps)} if steps else summary


def _summarize_loop(steps: Sequence[LoopCheck]) -> dict[str, Any]:
    return {
        "steps": len(steps),
        "frames": len({step.frame for step in steps}),
        "objects": len({step.object for step in steps}),
        "seen": sum(step.seen for step in steps),
        "counted": sum(step.counted for step in steps),
        "lowest_iou": min((step.iou for step in steps if step.counted), default=None),
        "lowest_pointer_cosine": min(step.pointer_cosine for step in steps),
    }


def require_ok(checks: Sequence[Check]) -> None:
    """Raises on the worst check that failed, and when too little could be judged.

    Half of all masks must count; in a loop, half of those whose object is seen.

    Raises:
        StageError: With exit code 6.
    """
    if not checks:
        raise _failed("Nothing was compared", "the reference has no case that this contract takes")
    tensors = [check for check in checks if isinstance(check, TensorCheck) and not check.ok]
    masks = [check for check in checks if isinstance(check, MaskCheck) and not check.ok]
    steps = [check for check in checks if isinstance(check, LoopCheck) and not check.ok]
    failed: list[Check] = [
        *sorted(tensors, key=lambda check: -check.relative),
        *sorted(masks, key=lambda check: check.iou),
        *sorted(steps, key=lambda check: (check.frame, check.object)),
    ]
    if failed:
        raise _failed(
            f"{len(failed)} of {len(checks)} comparisons with unpatched PyTorch failed",
            "the worst: " + "; ".join(check.describe() for check in failed[:3]),
        )
    _require_counted([check for check in checks if isinstance(check, MaskCheck)])
    _require_counted([check for check in checks if isinstance(check, LoopCheck) and check.seen])


def _require_counted(masks: Sequence[MaskCheck | LoopCheck]) -> None:
    counted = sum(mask.counted for mask in masks)
    if counted < _COUNTED * len(masks):
        raise _failed(
            f"Only {counted} of {len(masks)} masks could be judged",
            "the others cover almost nothing or almost everything of their pictures",
        )


def _shorten(failure: RuntimeFailure) -> str:
    return " ".join(str(failure).split())[:500]


def _failed(what: str, why: str) -> StageError:
    return StageError(
        what,
        why,
        "read verification.json in the step's scratch folder; a patch, an exporter or the "
        "simplifier changed what the model computes (try --simplifier none)",
        exit_code=NOT_VERIFIED,
    )
