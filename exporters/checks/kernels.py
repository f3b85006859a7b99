"""Whether onnxruntime computes quantized layers in integers, seen in a profile of a real run.

A layer that it cannot match runs in float32 between conversions, and nothing says so: the result is
right, and slower than the graph which was quantized.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from exporters.graphs.sessions import run_kernels

INTEGER_KERNELS: Final = frozenset(
    {
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QGemm",
        "QLinearMatMul",
    }
)
# Which convolutions run in integers depends on what follows them, so none is planned.
CONVOLUTIONS: Final = frozenset({"ConvInteger", "QLinearConv"})


def count_kernels(path: Path, threads: int, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Run a graph once on the CPU with onnxruntime's default options, but for the threads.

    Returns:
        `integer`, how often kernels of `INTEGER_KERNELS`, those of linear layers, ran; `names`, how
        often each of them and of `CONVOLUTIONS`; `all`, how often every kernel.

    Raises:
        RuntimeFailure: It cannot be loaded or run.
    """
    ran = Counter(operator for operator, _ in run_kernels(path, threads, inputs))
    return {
        "integer": sum(ran[name] for name in INTEGER_KERNELS),
        "names": {name: ran[name] for name in sorted((INTEGER_KERNELS | CONVOLUTIONS) & set(ran))},
        "all": dict(sorted(ran.items())),
    }


def find_kernel_fault(graph: str, counted: Mapping[str, Any]) -> str:
    """Say how the integer kernels that ran differ from those planned; empty where they do not.

    Where the options plan none, onnxruntime may do as it likes.

    Args:
        graph: The graph's name.
        counted: What `count_kernels` says, and how many were `planned`.
    """
    planned, found = int(counted["planned"]), int(counted["integer"])
    if found == planned or not planned:
        return ""
    listed = ", ".join(f"{count} {name}" for name, count in counted["names"].items()) or "none"
    if found < planned:
        return (
            f"of {graph}, {planned - found} of {planned} quantized linears run in float32: "
            f"onnxruntime ran {found} integer kernels ({listed})"
        )
    return (
        f"of {graph}, {found} integer kernels ran ({listed}), not {planned}: something was "
        "quantized that should not be"
    )
