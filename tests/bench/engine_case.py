"""What bench.engine measures, in figures that are known."""

from typing import Any

from bench.engine import Graph, Report, Side
from bench.process import Usage

FACTS: Any = {
    "activation_memory": 25_000_000,
    "weights_memory": 900_000,
    "layers": 661,
    "tensorrt": "1.7.1.116",
}


def side(*seconds: float, peak: int = 300_000_000, digest: str = "a" * 64) -> Side:
    """A side whose rounds took so long."""
    return Side(
        usage=[
            Usage(wall_seconds=one, cpu_seconds=one / 2, peak_bytes=peak + index)
            for index, one in enumerate(seconds)
        ],
        parse_seconds=[one / 10 for one in seconds],
        build_seconds=[one / 5 for one in seconds],
        digests=[digest for _ in seconds],
        sizes=[9_600_000 for _ in seconds],
        facts=[FACTS for _ in seconds],
    )


def graph(ours: Side, theirs: Side, **changed: Any) -> Graph:
    """A graph whose shapes are fixed, unless that is changed."""
    given: Any = {"name": "encoder", "fixed": True, "onnx_bytes": 54_700_000, **changed}
    return Graph(ours=ours, theirs=theirs, **given)


def report(*graphs: Graph) -> Report:
    """A report of graphs."""
    return Report(
        target="tiny/image/rtx-fp16",
        source="tiny/image/onnx-fp16",
        weights="random",
        rounds=len(graphs[0].ours.usage),
        graphs=graphs,
        machine={"processor": "one of them"},
    )
