"""The stage `verify`: graphs against their contract, a runtime, and unpatched PyTorch.

What fails is not published. `verification.json` holds every figure; times, which differ from run
to run, are only among the metrics.
"""

from collections.abc import Mapping
from typing import Any

from exporters.checks.graph_files import read_graphs
from exporters.checks.parity import LoopCheck, MaskCheck, ScoreCheck, TensorCheck, as_json
from exporters.checks.reference import Reference
from exporters.checks.runtime import Runtime
from exporters.checks.verdict import require_ok, summarize
from exporters.graphs.sessions import DEFAULTS
from exporters.protocol import Result, Step, report_progress, write_json


def run(step: Step) -> Result:
    """Check every graph of a contract; write `verification.json`.

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
