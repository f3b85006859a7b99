"""The stage `check_engine`: all that can be checked of engines without the GPU that runs them.

The ONNX graphs are parsed anew and held against the contract once more; the engines' headers are
held against what was asked for; and the graphs that they were built from have passed their own
verification. The outcome is `built.json`. It never says that an engine is verified: that takes a
run on its GPU.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from exporters.protocol import (
    NOT_VERIFIED,
    Result,
    StageError,
    Step,
    as_sentence,
    report_progress,
    write_json,
)
from exporters.stages.engine import DOCUMENT, read_network
from exporters.tensorrt.flavours import FLAVOURS, load_bindings
from exporters.tensorrt.header import HeaderError, find_faults, read_header

BUILT: Final = "built"
# What an engine is built for, by the name of its parameter, as errors call it.
_ASKED: Final = {
    "gpus": "they are for",
    "precision": "they compute in",
    "tf32": "TF32 is",
    "verbosity": "their verbosity is",
}
NOT_RUN: Final = "built, not run: no GPU has computed anything with these engines"


def run(step: Step) -> Result:
    """Check engines; write `built.json`.

    Parameters: those of `engine`, and `source` (the target whose graphs they were built from).

    Raises:
        StageError: An engine is not what its record says (exit code 6), or a graph is not.
    """
    flavour = FLAVOURS[step.param("flavour")]
    trt = load_bindings(step.param("flavour"))
    record = json.loads(step.input(DOCUMENT).read_text(encoding="utf-8"))
    graphs: Sequence[Mapping[str, Any]] = step.param("graphs")
    _require_record(step, record, trt)
    sizes: dict[str, int] = {}
    for index, golden in enumerate(graphs):
        name, file = golden["name"], step.param("engines")[golden["name"]]
        report_progress(index / len(graphs), f"checking {file}")
        network, facts = read_network(step, trt, golden)
        del network
        said = record["graphs"].get(name, {})
        differ = sorted(key for key, value in facts.items() if said.get(key) != value)
        if differ:
            raise _refuse(
                f"The engine {file} was not built from the graph {name}.",
                as_sentence(
                    "; ".join(
                        f"{key}: {_short(said.get(key))}, not {_short(facts[key])}"
                        for key in differ
                    )
                ),
            )
        sizes[file] = _check_file(step, flavour.header, file, trt)
    verified = json.loads(step.input("verification.json").read_text(encoding="utf-8"))
    summary = {
        "status": BUILT,
        "says": NOT_RUN,
        "tensorrt": record["tensorrt"],
        "gpus": record["gpus"],
        "precision": record["precision"],
        "activation_memory": max(one["activation_memory"] for one in record["graphs"].values()),
        "onnx": {"target": step.param("source"), "summary": verified["summary"]},
    }
    write_json(step.out / "built.json", {**record, **summary, "ran_on": None})
    return Result(outputs=["built.json"], metrics={"summary": summary, "bytes": sizes})


def _require_record(step: Step, record: Mapping[str, Any], trt: Any) -> None:
    """Raise where the engines' record is not of what the step asks for."""
    faults = [
        f"{label} {_say(record.get(name))}, and {_say(step.param(name))} was asked for"
        for name, label in _ASKED.items()
        if record.get(name) != step.param(name)
    ]
    if record["tensorrt"]["version"] != trt.__version__:
        faults.append(
            f"they are of version {record['tensorrt']['version']}, and this environment has "
            f"{trt.__version__}"
        )
    if faults:
        raise _refuse(
            "The engines are not those that were asked for.", as_sentence("; ".join(faults))
        )


def _check_file(step: Step, has_header: bool, file: str, trt: Any) -> int:
    path = step.input(file)
    if not has_header:
        return path.stat().st_size
    try:
        header = read_header(path)
    except HeaderError as error:
        raise _refuse(f"The engine {file} is damaged.", as_sentence(str(error))) from error
    faults = find_faults(header, trt.__version__, step.param("gpus"))
    if faults:
        raise _refuse(
            f"The engine {file} is not the one that was asked for.",
            as_sentence("; ".join(faults)),
        )
    return header.bytes


def _say(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _refuse(what: str, why: str) -> StageError:
    return StageError(
        what,
        why,
        "Build the target anew; if it fails again, report it.",
        exit_code=NOT_VERIFIED,
    )


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else text[:197] + "..."
