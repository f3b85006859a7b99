"""What bench.engine found: for every graph both sides beside each other, as a table, JSON and a
page of bars.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from bench.chart import Chart, write_page
from bench.comparison import text_of
from bench.engine import (
    BOUND_BYTES,
    BOUND_RATIO,
    LARGEST_ONNX,
    SIDES,
    SLACK_SECONDS,
    Graph,
    Report,
    Side,
)
from bench.measured import compare_bars, median_ratio

# Quantities that both sides have, with their unit.
MEASURED = (
    ("wall time", "s"),
    ("processor time", "s"),
    ("parse", "s"),
    ("build", "s"),
    ("peak memory", "bytes"),
    ("engine", "bytes"),
)


def values_of(side: Side, name: str) -> list[float]:
    """Return a side's values of one of `MEASURED`, one per round."""
    return {
        "wall time": side.wall_seconds,
        "processor time": [one.cpu_seconds for one in side.usage],
        "parse": [*side.parse_seconds],
        "build": [*side.build_seconds],
        "peak memory": [float(one.peak_bytes) for one in side.usage],
        "engine": [float(one) for one in side.sizes],
    }[name]


def promise_of(graph: Graph, name: str) -> str:
    """Return what is promised of a quantity, and whether it holds, in words."""
    match name:
        case "wall time":
            return f"<= {BOUND_RATIO:g}x + {SLACK_SECONDS:g} s {_verdict(graph.fast)}"
        case "peak memory" if graph.small is not None:
            return f"<= {text_of(BOUND_BYTES, 'bytes')} {_verdict(graph.small)}"
        case "engine" if graph.fixed:
            # It has been checked: else there is no report.
            return "same bytes ok"
        case _:
            return "-"


def table(report: Report) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return titles and rows for the terminal."""
    rows = []
    for graph in report.graphs:
        for name, unit in MEASURED:
            mine, other = values_of(graph.ours, name), values_of(graph.theirs, name)
            rows.append(
                (
                    graph.name,
                    name,
                    text_of(median(mine), unit),
                    text_of(median(other), unit),
                    f"{median_ratio(mine, other):.3f}x",
                    promise_of(graph, name),
                )
            )
        rows += [(graph.name, name, text, text, "same", "-") for name, text in _facts(graph)]
    return ("graph", "", *SIDES, "ratio", "promised"), rows


def _facts(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield what is one and the same for both sides."""
    facts = graph.ours.facts[0]
    yield "activations on the GPU", text_of(facts["activation_memory"], "bytes")
    yield "weights on the GPU", text_of(facts["weights_memory"], "bytes")
    yield "layers", str(facts["layers"])


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write engine.json and engine.html into a folder and return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "engine.json"
    data.write_text(json.dumps(report.document(), indent=1) + "\n", encoding="utf-8")
    page = write_page(
        folder / "engine.html",
        title=f"{report.target}: engines beside a short script's",
        lead="Shorter is better; the dashed line is what modelkiln promises at most.",
        charts=[
            _draw(graph, name, unit)
            for graph in report.graphs
            for name, unit in MEASURED
            if name in ("wall time", "build", "peak memory", "engine")
        ],
        facts=[
            ("built from", report.source),
            ("weights", report.weights),
            ("rounds", f"median of {report.rounds}, in turns; each in a process of its own"),
            ("wall time", "from the start of Python until the engine is written"),
            ("memory", f"peak of the process; promised for graphs up to {_most_onnx()}"),
            ("ratio", "median over the rounds of one side's value by the other's"),
            ("TensorRT for RTX", report.tensorrt),
            *(
                (f"{graph.name}: {name}", text)
                for graph in report.graphs
                for name, text in _facts(graph)
            ),
            *report.machine.items(),
        ],
    )
    return data, page


def _draw(graph: Graph, name: str, unit: str) -> Chart:
    mine, other = values_of(graph.ours, name), values_of(graph.theirs, name)
    mark = None
    if name == "wall time":
        mark = BOUND_RATIO * median(other) + SLACK_SECONDS
    elif name == "peak memory" and graph.small is not None:
        mark = float(BOUND_BYTES)
    promise = promise_of(graph, name)
    title = f"{graph.name}, {name}: {median_ratio(mine, other):.2f}x"
    return compare_bars(
        title if promise == "-" else f"{title} ({promise})",
        dict(zip(SIDES, (median(mine), median(other)), strict=True)),
        unit,
        mark,
        ours=SIDES[0],
    )


def _most_onnx() -> str:
    return text_of(LARGEST_ONNX, "bytes")


def _verdict(ok: bool) -> str:
    return "ok" if ok else "MISSED"
