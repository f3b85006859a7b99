"""Says in which operators ONNX Runtime spends the time of a graph of one picture input.

Runs inside the export environment, and prints one line of JSON:

    python -m bench.sides.operators GRAPH.onnx SCRATCH [--runs 7] [--threads 2]

    {"nodes": N, "operators": {NAME: {"seconds": S, "nodes": N, "products": P}, ...}}

The first N are the nodes in the file. Operators are those that ONNX Runtime runs, after its own
fusions; matrix products are one under all their names, but those of two computed tensors, as
attention has, are told apart from those with weights. S is the median over the runs of an
operator's time in one of them. P is how many multiplications its products consist of, 0 for what is
none. SCRATCH is a folder for the profile.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from statistics import median
from typing import Any, Final

import onnx

from bench.sides.features import make_picture
from bench.sides.side import open_session

WITH_WEIGHTS: Final = "products with weights"
IN_ATTENTION: Final = "products in attention"
_PRODUCTS: Final = ("FusedGemm", "FusedMatMul", "Gemm", "MatMul")
_TAIL: Final = "_kernel_time"


def profile_graph(path: Path, scratch: Path, *, runs: int, threads: int) -> list[dict[str, Any]]:
    """Return the events of ONNX Runtime's own profile of so many runs; one run comes before
    them.
    """
    session, _ = open_session(path, threads, profile=scratch / "profile")
    entry = session.get_inputs()[0]
    picture = {entry.name: make_picture(*entry.shape[2:])}
    for _ in range(runs + 1):
        session.run(None, picture)
    written = Path(session.end_profiling())
    events: list[dict[str, Any]] = json.loads(written.read_text(encoding="utf-8"))
    written.unlink()
    return events


def sum_operators(
    events: Iterable[Mapping[str, Any]], runs: int
) -> dict[str, dict[str, float | int]]:
    """Sum seconds, nodes and multiplications by operator, of the last `runs` runs, slowest first.

    Raises:
        ValueError: Some node did not run once in every run.
    """
    spent: dict[str, list[float]] = defaultdict(list)
    about: dict[str, tuple[str, int]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_TAIL):
            spent[event["name"]].append(event["dur"] / 1e6)
            about[event["name"]] = describe(event["args"])
    if not spent or any(len(seconds) != runs + 1 for seconds in spent.values()):
        raise ValueError(f"a profile of other than {runs + 1} runs")
    totals: dict[str, list[float]] = defaultdict(lambda: [0.0] * runs)
    nodes: dict[str, int] = defaultdict(int)
    products: dict[str, int] = defaultdict(int)
    for name, seconds in spent.items():
        operator, count = about[name]
        totals[operator] = [
            one + more for one, more in zip(totals[operator], seconds[1:], strict=True)
        ]
        nodes[operator] += 1
        products[operator] += count
    found: dict[str, dict[str, float | int]] = {
        operator: {
            "seconds": median(total),
            "nodes": nodes[operator],
            "products": products[operator],
        }
        for operator, total in totals.items()
    }
    return dict(sorted(found.items(), key=lambda item: -item[1]["seconds"]))


def describe(node: Mapping[str, Any]) -> tuple[str, int]:
    """Return what a profiled node counts as, and how many multiplications its matrix product
    has.
    """
    operator = str(node["op_name"])
    if operator not in _PRODUCTS:
        return operator, 0
    # A profile leaves out weights that the runtime has packed.
    first, *others = (shape_of(one) for one in node["input_type_shape"])
    (result,) = (shape_of(one) for one in node["output_type_shape"])
    computed = bool(others) and len(others[0]) > 2
    return IN_ATTENTION if computed else WITH_WEIGHTS, prod(result) * first[-1]


def shape_of(typed: Mapping[str, list[int]]) -> list[int]:
    """Return the dims in an entry such as {"float": [1, 3]}."""
    (dims,) = typed.values()
    return dims


def main() -> None:
    """Read the command line, profiles, print."""
    parser = argparse.ArgumentParser(description="Where the time of a graph goes.")
    parser.add_argument("graph", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    events = profile_graph(
        options.graph, options.scratch, runs=options.runs, threads=options.threads
    )
    model = onnx.load_model(options.graph, load_external_data=False)
    operators = sum_operators(events, options.runs)
    told = {"nodes": len(model.graph.node), "operators": operators}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
