"""The stage `verify`: graphs against their contract, a runtime, and unpatched PyTorch.

What fails here goes nowhere. `verification.json` holds every figure; times, which differ from run
to run, are only among the metrics.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from exporters.checks.parity import (
    Check,
    LoopCheck,
    MaskCheck,
    ScoreCheck,
    TensorCheck,
    as_json,
    as_number,
)
from exporters.graphs.contract import find_faults
from exporters.graphs.external_data import files_of, total_bytes
from exporters.graphs.sessions import CPU, DEFAULTS, ERRORS_ALONE, RuntimeFailure, Session
from exporters.graphs.structure import count_ops, read_graph
from exporters.protocol import (
    NOT_VERIFIED,
    Result,
    StageError,
    Step,
    report_progress,
    write_json,
)

Arrays = dict[str, NDArray[Any]]
Run = Callable[[str, Mapping[str, NDArray[Any]]], Arrays]

_COUNTED: Final = 0.5
_NEXT: Final = (
    "read verification.json in the step's scratch folder; a patch, an exporter or the simplifier "
    "changed what the model computes (try --simplifier none)"
)


class Reference:
    """What the stage `reference` wrote: the cases, and arrays read from the file when asked for.

    Attributes:
        document: The cases.
        untouched: Graphs that need no comparison by themselves, because they are verified already.
    """

    def __init__(
        self, cases: Path, tensors: Path, untouched: Collection[str] = frozenset()
    ) -> None:
        self.document: Mapping[str, Any] = json.loads(cases.read_text(encoding="utf-8"))
        self.untouched = frozenset(untouched)
        self._tensors: Any = safe_open(tensors, framework="numpy")

    def __getitem__(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = self._tensors.get_tensor(name)
        return array


class Runtime:
    """A session for each graph; what fails in one is a failed verification.

    Attributes:
        samples: Inputs of one run of each graph: the largest of one picture or object.
        strange: Outputs that held a value which is no number, in words.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        threads: int,
        config: Mapping[str, str] = DEFAULTS,
        provider: str = CPU,
    ) -> None:
        self.sessions: dict[str, Session] = {}
        self.samples: dict[str, Arrays] = {}
        self.strange: list[str] = []
        for name, path in files.items():
            try:
                self.sessions[name] = Session(path, threads, ERRORS_ALONE, config, provider)
            except RuntimeFailure as failure:
                raise not_verified(
                    f"onnxruntime cannot load the graph {name}", _shorten(failure)
                ) from failure

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Runs a graph on the inputs that it knows; returns its outputs by name."""
        session = self.sessions[graph]
        feeds = {name: inputs[name] for name in session.inputs}
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in feeds.items())
        try:
            outputs = session.run(feeds)
        except RuntimeFailure as failure:
            raise not_verified(
                f"onnxruntime cannot run the graph {graph} on {shapes}", _shorten(failure)
            ) from failure
        if graph not in self.samples or _rank(feeds) < _rank(self.samples[graph]):
            self.samples[graph] = feeds
        self.strange += [
            f"{graph}: {name} on {shapes}"
            for name, value in outputs.items()
            if not np.isfinite(value).all()
        ]
        return outputs

    def describe_times(self) -> dict[str, Any]:
        """How long loading and running each graph took."""
        return {
            name: {
                "load_seconds": round(session.load_seconds, 4),
                "run_seconds": round(float(np.median(session.run_seconds or [0.0])), 4),
                "runs": len(session.run_seconds),
            }
            for name, session in self.sessions.items()
        }


def _rank(feeds: Arrays) -> tuple[int, int]:
    """Few pictures or objects before many, then large inputs before small ones."""
    batch = max((value.shape[0] for value in feeds.values() if value.ndim), default=1)
    return batch, -sum(value.nbytes for value in feeds.values())


@dataclass(frozen=True, kw_only=True)
class GraphFiles:
    """A graph's files, and what they hold.

    Attributes:
        path: The .onnx file.
        files: It and its data file.
        figures: Nodes, operators and bytes.
    """

    path: Path
    files: tuple[Path, ...]
    figures: Mapping[str, Any]


def read_graphs(
    step: Step, contract: Mapping[str, Any], untouched: Collection[str] = ()
) -> dict[str, GraphFiles]:
    """Compares every graph with its contract.

    Args:
        step: Its inputs are the graphs' files; its parameter `opset` is theirs.
        contract: The whole golden contract.
        untouched: Graphs that were compared already, with the onnx that wrote them.

    Raises:
        StageError: One contradicts it (exit code 6).
    """
    report_progress(0.0, "comparing the graphs with their contract")
    found: dict[str, GraphFiles] = {}
    for golden in contract["graphs"]:
        path, *data = files = [step.input(name) for name in files_of(golden)]
        model = read_graph(path)
        # Another onnx may infer other names for dims than that which wrote them.
        if golden["name"] not in untouched and (
            faults := find_faults(model, golden, contract, int(step.param("opset")), *data)
        ):
            raise not_verified(
                f"The graph {golden['name']} is not the contract {contract['name']}'s",
                "; ".join(faults),
            )
        figures = {
            "nodes": len(model.graph.node),
            "ops": count_ops(model),
            "bytes": total_bytes(files),
        }
        found[golden["name"]] = GraphFiles(path=path, files=tuple(files), figures=figures)
        del model
    return found


def run(step: Step) -> Result:
    """Checks every graph of a contract; writes `verification.json`.

    Parameters: `contract` (the whole golden contract) and `opset`. The family's part gives the
    checks: `check(run, contract, reference)` yields one for each tensor, mask and step of a loop.

    Raises:
        StageError: Something differs (exit code 6); names graph, case, tensor, value and bound.
    """
    contract: Mapping[str, Any] = step.param("contract")
    graphs = read_graphs(step, contract)
    report_progress(0.1, "loading the graphs in onnxruntime")
    files = {name: one.path for name, one in graphs.items()}
    runtime = Runtime(files, step.threads, contract.get("session", DEFAULTS))
    reference = Reference(step.input("cases.json"), step.input("tensors.safetensors"))
    checks = list(step.provider().check(runtime.run, contract, reference))
    document: dict[str, Any] = {
        "contract": {"name": contract["name"], "version": contract["version"]},
        "graphs": {name: one.figures for name, one in graphs.items()},
        "tensors": [as_json(check) for check in checks if isinstance(check, TensorCheck)],
        "masks": [as_json(check) for check in checks if isinstance(check, MaskCheck)],
        "summary": summarize(checks),
    }
    scores = [as_json(check) for check in checks if isinstance(check, ScoreCheck)]
    if scores:
        document["scores"] = scores
    loop = [as_json(check) for check in checks if isinstance(check, LoopCheck)]
    if loop:
        document["loop"] = loop
    write_json(step.out / "verification.json", document)
    require_ok(checks)
    metrics = {**document, "timings": runtime.describe_times()}
    return Result(outputs=["verification.json"], metrics=metrics)


def summarize(checks: Iterable[Check]) -> dict[str, Any]:
    """The worst figure of every output, and how masks, scores and the steps of a loop fared."""
    worst: dict[str, TensorCheck] = {}
    rest: list[Check] = []
    for check in checks:
        if isinstance(check, TensorCheck):
            name = f"{check.graph}/{check.tensor}"
            if name not in worst or check.relative > worst[name].relative:
                worst[name] = check
        else:
            rest.append(check)
    return {
        "worst": {name: as_json(check) for name, check in sorted(worst.items())},
        **summarize_together(rest),
    }


def summarize_together(checks: Sequence[Check]) -> dict[str, Any]:
    """How the graphs fared together: masks, and where there are any scores and steps of a loop."""
    masks = [check for check in checks if isinstance(check, MaskCheck)]
    scores = [check for check in checks if isinstance(check, ScoreCheck)]
    steps = [check for check in checks if isinstance(check, LoopCheck)]
    counted = [mask for mask in masks if mask.counted]
    summary: dict[str, Any] = {
        "masks": len(masks),
        "masks_counted": len(counted),
        "lowest_iou": min((mask.iou for mask in counted), default=None),
    }
    if scores:
        summary["scores"] = {
            "cases": len(scores),
            "max_abs_diff": as_number(max(score.max_abs_diff for score in scores)),
            "mean_abs_diff": as_number(float(np.mean([one.mean_abs_diff for one in scores]))),
            "relative": as_number(max(score.relative for score in scores)),
        }
    if steps:
        summary["loop"] = _summarize_loop(steps)
    return summary


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
    require_some(checks)
    tensors = [check for check in checks if isinstance(check, TensorCheck) and not check.ok]
    masks = [check for check in checks if isinstance(check, MaskCheck) and not check.ok]
    scores = [check for check in checks if isinstance(check, ScoreCheck) and not check.ok]
    steps = [check for check in checks if isinstance(check, LoopCheck) and not check.ok]
    failed: list[Check] = [
        *sorted(tensors, key=lambda check: -check.relative),
        *sorted(masks, key=lambda check: check.iou),
        *sorted(scores, key=lambda check: -check.relative),
        *sorted(steps, key=lambda check: (check.frame, check.object)),
    ]
    if failed:
        raise not_verified(
            f"{len(failed)} of {len(checks)} comparisons with unpatched PyTorch failed",
            "the worst: " + "; ".join(check.describe() for check in failed[:3]),
        )
    require_counted(checks)


def require_some(checks: Sequence[Check]) -> None:
    """Raises where nothing was compared.

    Raises:
        StageError: With exit code 6.
    """
    if not checks:
        raise not_verified(
            "Nothing was compared", "the reference has no case that this contract takes"
        )


def require_counted(checks: Sequence[Check]) -> None:
    """Raises where fewer than half of the masks can be judged.

    Raises:
        StageError: With exit code 6.
    """
    _require_counted([check for check in checks if isinstance(check, MaskCheck)])
    _require_counted([check for check in checks if isinstance(check, LoopCheck) and check.seen])


def _require_counted(masks: Sequence[MaskCheck | LoopCheck]) -> None:
    counted = sum(mask.counted for mask in masks)
    if counted < _COUNTED * len(masks):
        raise not_verified(
            f"Only {counted} of {len(masks)} masks could be judged",
            "the others cover almost nothing or almost everything of their pictures",
        )


def _shorten(failure: RuntimeFailure) -> str:
    return " ".join(str(failure).split())[:500]


def not_verified(what: str, why: str, then: str = _NEXT) -> StageError:
    """A verification that failed: exit code 6."""
    return StageError(what, why, then, exit_code=NOT_VERIFIED)
