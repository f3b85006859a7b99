"""Engines on a page and in lines: what was built, for which GPUs, from what; never that it ran."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypedDict

from modelkiln.util.units import human_bytes

# The columns of a table of engines.
TITLES: Final = (
    *("target", "engine", "size", "activations", "weights", "layers"),
    *("GPUs", "shapes", "same bytes"),
)
# The layers in which nearly all of the work is done.
_HEAVY: Final = ("MATRIX_MULTIPLY", "CONVOLUTION", "DECONVOLUTION", "EINSUM", "ATTENTION_OUTPUT")


class EngineRow(TypedDict):
    """One engine.

    Attributes:
        activation_memory: Bytes of the GPU that running it takes at its largest shapes, as its
            builder says; the weights come on top.
        shapes: Of the inputs whose dims are open in the ONNX graph, in words.
        same_bytes: Whether another build is promised to give the same bytes.
    """

    graph: str
    file: str
    bytes: int
    onnx: str
    activation_memory: int
    weights_memory: int
    layers: int
    types: str
    shapes: str
    same_bytes: bool


class Engines(TypedDict):
    """The engines of one target, as `built.json` has them."""

    title: str
    version: str
    gpus: Sequence[str]
    precision: str
    tf32: bool
    says: str
    source: str
    source_says: str
    ran_on: Mapping[str, str] | None
    rows: Sequence[EngineRow]


def read_engines(built: Mapping[str, Any], sizes: Mapping[str, int]) -> Engines:
    """Return what a page tells of engines.

    Args:
        built: The document `built.json`.
        sizes: Bytes of each file, by its name.
    """
    return {
        "title": built["tensorrt"]["title"],
        "version": built["tensorrt"]["version"],
        "gpus": built["gpus"],
        "precision": built["precision"],
        "tf32": built["tf32"],
        "says": built["says"],
        "source": built["onnx"]["target"],
        "source_says": say_source(built["onnx"]),
        "ran_on": built["ran_on"],
        "rows": [
            {
                "graph": name,
                "file": one["file"],
                "bytes": sizes[one["file"]],
                "onnx": one["onnx"][0]["sha256"],
                "activation_memory": one["activation_memory"],
                "weights_memory": one["weights_memory"],
                "layers": one["layers"],
                "types": say_types(one["types"]),
                "shapes": "; ".join(_say_shapes(one["inputs"])),
                "same_bytes": one["same_bytes"],
            }
            for name, one in built["graphs"].items()
        ],
    }


def say_types(types: Mapping[str, Mapping[str, int]]) -> str:
    """Return what products, convolutions and attention put out: `float16 84, float32 2`."""
    counts: dict[str, int] = {}
    for kind in _HEAVY:
        for dtype, count in types.get(kind, {}).items():
            counts[dtype] = counts.get(dtype, 0) + count
    return ", ".join(f"{dtype} {count}" for dtype, count in sorted(counts.items()))


def _say_shapes(inputs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in inputs:
        if "max" in one:
            low, best, high = ("x".join(map(str, one[name])) for name in ("min", "opt", "max"))
            yield f"{one['name']} {low} to {high}, best {best}"


def tabulate_engines(
    targets: Mapping[str, Engines],
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return `TITLES` and rows of a table, an engine a row.

    Args:
        targets: What is known of the engines of each target, by its name.
    """
    rows = [
        (
            name,
            row["file"],
            human_bytes(row["bytes"]),
            human_bytes(row["activation_memory"]),
            human_bytes(row["weights_memory"]),
            str(row["layers"]),
            "+".join(engines["gpus"]),
            "range" if row["shapes"] else "fixed",
            "promised" if row["same_bytes"] else "not promised",
        )
        for name, engines in targets.items()
        for row in engines["rows"]
    ]
    return TITLES, rows


def say_gpus(gpus: Sequence[str]) -> str:
    """Return the GPUs that engines are for, in words."""
    if list(gpus) == ["portable"]:
        return "portable: compute capability 8.0, 8.6, 8.9, 12.0 and later"
    names = [one.removeprefix("sm") for one in gpus]
    return f"compute capability {', '.join(f'{one[:-1]}.{one[-1]}' for one in names)}"


def say_built(summary: Mapping[str, Any]) -> str:
    """Return what is known of engines that nobody ran, in one line.

    Args:
        summary: That of their check.
    """
    tensorrt = summary["tensorrt"]
    return (
        f"{summary['says']}; {tensorrt['title']} {tensorrt['version']}, {summary['precision']}, "
        f"{say_gpus(summary['gpus'])}; at most {human_bytes(summary['activation_memory'])} of "
        f"activations; from {summary['onnx']['target']}, {say_source(summary['onnx'])}"
    )


def say_source(onnx: Mapping[str, Any]) -> str:
    """Return what the checks of the graphs came to that engines are built from.

    Args:
        onnx: `summary`, that of the graphs' last check.
    """
    summary = onnx["summary"]
    if isinstance(summary, Mapping) and summary.get("binding") is False:
        missed = len(summary.get("missed", ()))
        more = f", {missed} missed" if missed else ""
        return f"whose gates do not bind: random weights{more}"
    return "which passed its own checks"
