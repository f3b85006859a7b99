"""The stage `assess`: graphs in a reduced precision, against PyTorch and the format's gates.

They are held against their contract and the same reference as float32's, whose verification comes
with them. What is no number always fails, and so do a graph that does not load and integer kernels
that are missing; the gates fail where the weights are not random. What fails is not published.
"""

import filecmp
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporters.checks.benefit import Pair, measure
from exporters.checks.graph_files import GraphFiles, read_graphs
from exporters.checks.kernels import count_kernels, find_kernel_fault
from exporters.checks.parity import Check, LoopCheck, MaskCheck, ScoreCheck, TensorCheck
from exporters.checks.quality import (
    CLOSED_LOOP,
    COSINE,
    END_TO_END,
    MASK_IOU,
    SNR,
    Gate,
    OutputQuality,
    decibels,
    describe_check,
    judge,
    pool,
)
from exporters.checks.reference import Reference
from exporters.checks.runtime import Runtime
from exporters.checks.verdict import not_verified, require_counted, require_some, summarize_together
from exporters.graphs.external_data import files_of, total_bytes
from exporters.graphs.sessions import CPU, CUDA, RuntimeFailure
from exporters.protocol import Result, Step, as_sentence, report_progress, write_json

BASE: Final = "fp32"

_NEXT: Final = (
    "Read verification.json in the step's scratch folder; more pictures like those that the "
    "model will see (--calibration DIR, --calib-size N), or fewer quantized operators "
    "(--op-types-to-quantize, --graphs-to-quantize), lose less."
)


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What one runtime made of the reference's cases."""

    checks: Sequence[Check]
    outputs: Sequence[OutputQuality]
    gates: Sequence[Gate]
    strange: Sequence[str]


def run(step: Step) -> Result:
    """Check the graphs of a format that replaces float32's; write `verification.json`.

    Parameters: `contract` (the whole golden contract), `opset`, `format` (`name`, `gates`,
    `session`, `integer_kernels`, `mode`), `binding` (whether a gate that is missed fails) and
    `cuda` (whether everything is run on a GPU as well). Inputs: the graphs, `fp32/FILE` for each
    float32 file, `fp32/verification.json`, `quantization.json`, and the reference's files. The
    family's part gives the checks, as for `verify`.

    A graph whose file is float32's, byte by byte, is verified already: it takes part in what the
    graphs do together, and nothing else.

    Raises:
        StageError: Something is wrong or lost (exit code 6): names what, its value and its bound.
    """
    contract: Mapping[str, Any] = step.param("contract")
    form: Mapping[str, Any] = step.param("format")
    binding, cuda = bool(step.param("binding")), bool(step.param("cuda"))
    plan = json.loads(step.input("quantization.json").read_text(encoding="utf-8"))
    untouched = _find_untouched(step, contract, plan)
    graphs = read_graphs(step, contract, untouched)
    report_progress(0.1, "loading the graphs in onnxruntime")
    paths = {name: one.path for name, one in graphs.items()}
    runtime = Runtime(paths, step.threads, form["session"])
    reference = Reference(step.input("cases.json"), step.input("tensors.safetensors"), untouched)
    measured = {"cpu": _measure(step, contract, form["gates"], runtime, reference, "cpu")}
    timings, samples = runtime.describe_times(), runtime.samples
    idle = set(paths) - set(samples)
    if idle:
        raise not_verified(
            f"No case runs {_list(idle)}.",
            "What is never run cannot be judged.",
            "Report this as a fault of the contract's family.",
        )
    del runtime
    if cuda:
        faster = Runtime(paths, step.threads, form["session"], CUDA)
        measured["cuda"] = _measure(step, contract, form["gates"], faster, reference, "cuda")
        del faster
    kernels = _count_kernels(step, plan, paths, samples) if form["integer_kernels"] else {}
    document = _describe(step, contract, graphs, plan, measured, kernels)
    write_json(step.out / "verification.json", document)
    _require_finite(measured)
    _require_kernels(kernels)
    gates = [gate for one in measured.values() for gate in one.gates]
    outputs = {
        value["name"]
        for golden in contract["graphs"]
        if golden["name"] in plan["graphs"]
        for value in golden["outputs"]
    }
    for one in measured.values():
        _require_judged(form["gates"], plan["graphs"], outputs, one)
    if binding:
        _require_gates(form["name"], gates)

    report_progress(None, "measuring what it gains")
    golden = {graph["name"]: graph for graph in contract["graphs"]}
    benefit = measure(
        {
            name: Pair(reduced=path, base=_base(step, golden[name]["file"]), inputs=samples[name])
            for name, path in paths.items()
            if name not in untouched
        },
        {
            name: (one.figures["bytes"], total_bytes(_base_files(step, golden[name])))
            for name, one in graphs.items()
        },
        step.threads,
        form["session"],
        {"cpu": CPU, "cuda": CUDA} if cuda else {"cpu": CPU},
    )
    metrics = {**document, "timings": timings, "benefit": benefit, "pays": benefit["pays"]}
    return Result(outputs=["verification.json"], metrics=metrics)


def _find_untouched(
    step: Step, contract: Mapping[str, Any], plan: Mapping[str, Any]
) -> frozenset[str]:
    """Return the graphs whose files are those of float32, which must be those that `quantize` let
    be.
    """
    same = {
        golden["name"]
        for golden in contract["graphs"]
        if _same_files([step.input(name) for name in files_of(golden)], _base_files(step, golden))
    }
    if same != set(plan["untouched"]):
        raise not_verified(
            "The file quantization.json does not say which graphs were changed.",
            f"It calls {_list(plan['untouched'])} untouched, and equal to float32's are "
            f"{_list(same)}.",
            "This is a fault of the stage quantize: report it.",
        )
    if len(same) == len(contract["graphs"]):
        raise not_verified(
            "No graph was changed.",
            "All files are those of float32.",
            "This is a fault of the stage quantize: report it.",
        )
    return frozenset(same)


def _list(names: Sequence[str] | set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _base(step: Step, name: str) -> Path:
    return step.input(f"{BASE}/{name}")


def _base_files(step: Step, golden: Mapping[str, Any]) -> list[Path]:
    """Return float32's graph, and its data file, which the smaller graph may do without."""
    first = f"{BASE}/{golden['file']}"
    return [path for name, path in sorted(step.inputs.items()) if name.startswith(first)]


def _same_files(files: Sequence[Path], others: Sequence[Path]) -> bool:
    return len(files) == len(others) and all(
        filecmp.cmp(one, other, shallow=False) for one, other in zip(files, others, strict=True)
    )


def _measure(
    step: Step,
    contract: Mapping[str, Any],
    gates: Mapping[str, Any],
    runtime: Runtime,
    reference: Reference,
    label: str,
) -> _Measured:
    checks = [
        check
        for check in step.provider().check(runtime.run, contract, reference)
        if not (isinstance(check, TensorCheck) and check.graph in reference.untouched)
    ]
    require_some(checks)
    outputs = pool(checks)
    return _Measured(
        checks=checks,
        outputs=outputs,
        gates=judge(gates, outputs, checks, label),
        strange=runtime.strange,
    )


def _count_kernels(
    step: Step, plan: Mapping[str, Any], paths: Mapping[str, Path], samples: Mapping[str, Any]
) -> dict[str, Any]:
    counted = {}
    for name in plan["graphs"]:
        report_progress(None, f"counting the integer kernels of {name}")
        try:
            kernels = count_kernels(paths[name], step.threads, samples[name])
        except RuntimeFailure as failure:
            raise not_verified(
                f"ONNX Runtime cannot run the graph {name} with its default options.",
                str(failure)[:500],
                _NEXT,
            ) from failure
        planned = int(plan["graphs"][name]["integer_kernels"])
        counted[name] = {"planned": planned, **kernels}
    return counted


def _describe(
    step: Step,
    contract: Mapping[str, Any],
    graphs: Mapping[str, GraphFiles],
    plan: Mapping[str, Any],
    measured: Mapping[str, _Measured],
    kernels: Mapping[str, Any],
) -> dict[str, Any]:
    """Return `verification.json`: every figure, and none that depends on a clock."""
    form: Mapping[str, Any] = step.param("format")
    cpu = measured["cpu"]
    bound = float(form["gates"].get(MASK_IOU, 0))

    def rows(kind: type[Check]) -> list[dict[str, Any]]:
        return [describe_check(check, bound) for check in cpu.checks if isinstance(check, kind)]

    sizes = {
        "bytes": sum(one.figures["bytes"] for one in graphs.values()),
        "fp32_bytes": sum(total_bytes(_base_files(step, golden)) for golden in contract["graphs"]),
    }
    gates = [gate for one in measured.values() for gate in one.gates]
    summary = {
        **summarize_together([check for check in cpu.checks if _is_of_photograph(check)]),
        "format": form["name"],
        "mode": form["mode"],
        "binding": bool(step.param("binding")),
        "missed": [gate.say() for gate in gates if not gate.ok],
        "quality": _summarize_quality(cpu.outputs),
        "linears": {
            name: sum(int(one.get(name, 0)) for one in plan["graphs"].values())
            for name in ("linears", "quantized")
        },
        **sizes,
    }
    document: dict[str, Any] = {
        "contract": {"name": contract["name"], "version": contract["version"]},
        "format": dict(form),
        "binding": bool(step.param("binding")),
        "graphs": {name: one.figures for name, one in graphs.items()},
        "untouched": sorted(plan["untouched"]),
        "tensors": rows(TensorCheck),
        "masks": rows(MaskCheck),
        "gates": [gate.describe() for gate in gates],
        "quality": {
            label: [one.describe() for one in found.outputs] for label, found in measured.items()
        },
        "kernels": dict(kernels),
        "fp32": _quote_base(step),
        "summary": summary,
    }
    optional = {"scores": rows(ScoreCheck), "loop": rows(LoopCheck)}
    return document | {name: found for name, found in optional.items() if found}


def _is_of_photograph(check: Check) -> bool:
    return isinstance(check, LoopCheck) or check.photograph


def _summarize_quality(outputs: Sequence[OutputQuality]) -> dict[str, Any]:
    """Return the output that lost most."""
    worst = min(outputs, key=lambda one: one.energy.snr_db, default=None)
    if worst is None:
        return {}
    return {
        "graph": worst.graph,
        "tensor": worst.tensor,
        "lowest_snr_db": decibels(worst.energy.snr_db),
        "lowest_cosine": min(one.lowest_cosine for one in outputs),
    }


def _quote_base(step: Step) -> dict[str, Any]:
    """Return how float32's graphs differ from PyTorch at most, as their own verification has it."""
    found = json.loads(_base(step, "verification.json").read_text(encoding="utf-8"))["summary"]
    name, worst = max(found["worst"].items(), key=lambda item: item[1]["relative"])
    return {
        "output": name,
        "relative": worst["relative"],
        "bound": worst["bound"],
        "lowest_iou": found.get("lowest_iou"),
    }


def _require_finite(measured: Mapping[str, _Measured]) -> None:
    for label, one in measured.items():
        broken = [
            check.describe()
            for check in one.checks
            if isinstance(check, TensorCheck) and not check.finite
        ]
        if one.strange or broken:
            raise not_verified(
                f"NaN or infinite values come out of the graphs on {label}, "
                f"{len(one.strange)} times.",
                f"{'; '.join([*one.strange, *broken][:3])}.",
                "The precision is too small for this model, or the scales are wrong: quantize "
                "less (--op-types-to-quantize, --graphs-to-quantize), or take another format.",
            )
        uneven = [
            check
            for check in one.checks
            if isinstance(check, TensorCheck) and check.exact and not check.ok
        ]
        if uneven:
            raise not_verified(
                f"An input without a use changes what comes out on {label}.",
                f"{'; '.join(check.describe() for check in uneven[:3])}.",
                _NEXT,
            )


def _require_kernels(kernels: Mapping[str, Any]) -> None:
    faults = [fault for name, found in kernels.items() if (fault := find_kernel_fault(name, found))]
    if faults:
        raise not_verified(
            "ONNX Runtime does not compute the quantized linears as planned.",
            as_sentence("; ".join(faults)),
            "This is a fault of the stage quantize, or of onnxruntime on this CPU: report it "
            "with verification.json, which lists the kernels that ran.",
        )


def _require_judged(
    gates: Mapping[str, Any], changed: Collection[str], outputs: set[str], found: _Measured
) -> None:
    """Require that half of the masks count, and what the gates ask for must have been measured.

    Args:
        gates: The format's.
        changed: The graphs that have lower precision.
        outputs: The names of all of their outputs.
        found: What was measured.
    """
    require_counted(found.checks)
    unseen = set(changed) - {one.graph for one in found.outputs}
    if (SNR in gates or COSINE in gates) and unseen:
        raise not_verified(
            f"No output of {_list(unseen)} was compared on a photograph.",
            "The reference has no photograph, or the comparisons leave the graph out.",
            "Report this as a fault of the contract's family.",
        )
    made = {one.tensor for one in found.outputs}
    asked = set(gates.get(COSINE, ())) & outputs
    if asked - made:
        raise not_verified(
            f"The cosine of {_list(asked - made)} was not judged.",
            "The format has a gate for it, and the comparisons leave it out.",
            "Report this as a fault of the contract's family.",
        )
    judged = {gate.graph for gate in found.gates if gate.name == MASK_IOU}
    for kind, graph in ((MaskCheck, END_TO_END), (LoopCheck, CLOSED_LOOP)):
        there = any(isinstance(check, kind) for check in found.checks)
        if MASK_IOU in gates and there and graph not in judged:
            raise not_verified(
                f"No mask could be judged {graph}.",
                "Those of photographs cover almost nothing or almost everything.",
                "Report this as a fault of the contract's pictures or prompts.",
            )


def _require_gates(name: str, gates: Sequence[Gate]) -> None:
    missed = sorted(
        (gate for gate in gates if not gate.ok),
        key=lambda gate: (gate.value - gate.bound) / gate.bound,
    )
    if missed:
        raise not_verified(
            f"{name} loses too much: {len(missed)} of {len(gates)} gates are missed.",
            as_sentence("; ".join(gate.say() for gate in missed[:4])),
            _NEXT,
        )
