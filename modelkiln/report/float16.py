"""What a report tells of graphs with float16 in them: how near they come to its end, at 65504."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict


class CloseRow(TypedDict):
    """A value above half of the limit; `largest` is None where it is infinite.

    `float16` is whether an operator in float16 reads or writes it.
    """

    tensor: str
    largest: float | None
    float16: bool


class RangeRow(TypedDict):
    """What a graph reached over the calibration pictures, and what stays in float32 for it.

    `largest` is that of `tensor`, of `observed` values; None where it is infinite. `kept` has the
    operators that stay because of the range, with how many of each.
    """

    graph: str
    limit: float
    observed: int
    tensor: str
    largest: float | None
    close: Sequence[CloseRow]
    kept: Sequence[tuple[str, int]]


def read_ranges(plan: Mapping[str, Any]) -> Iterator[RangeRow]:
    """Yield the range of every graph with float16 in it, of `quantization.json`."""
    for graph, one in plan.get("graphs", {}).items():
        found = one.get("float16")
        if found is None:
            continue
        top = found["largest"] or {"tensor": "", "largest": 0.0}
        kept = Counter(node["op"] for node in found["kept"])
        yield RangeRow(
            graph=graph,
            limit=found["limit"],
            observed=found["observed"],
            tensor=top["tensor"],
            largest=top["largest"],
            close=found["close"],
            kept=sorted(kept.items()),
        )


def say_range(row: RangeRow) -> Iterator[str]:
    """Yield a graph's range in lines: how far it goes, what comes close, what stays in float32."""
    yield (
        f"{row['graph']} reaches {say_magnitude(row['largest'])} of float16's {row['limit']:.0f} "
        f"({row['tensor']}; {row['observed']} values over the calibration pictures)"
    )
    for one in row["close"]:
        what = "float16, above half of its range" if one["float16"] else "stays in float32"
        yield f"  {one['tensor']} reaches {say_magnitude(one['largest'])}: {what}"
    if row["kept"]:
        yield f"  {say_kept(row)}"


def say_kept(row: RangeRow) -> str:
    """Say 3 operators stay in float32, where float16 would overflow: Add 1, MatMul 2."""
    count = sum(number for _, number in row["kept"])
    stay = "1 operator stays" if count == 1 else f"{count} operators stay"
    names = ", ".join(f"{name} {number}" for name, number in row["kept"])
    return f"{stay} in float32, where float16 would overflow: {names}"


def say_magnitude(value: float | None) -> str:
    """Say 812.4, 3.2e+06 or infinity."""
    if value is None:
        return "infinity"
    return f"{value:.0f}" if 1000 <= value < 1e6 else f"{value:.4g}"
