"""Linear layers that find their scales while they run."""

from pathlib import Path

import onnx

from tests.quantize.small_nets import (
    make_picture,
)
from tests.quantize.small_steps import (
    count_kernels,
    relative_error,
    run_graph,
    run_quantize,
)


def test_dynamic_quantizes_the_linears_alone(encoder: Path, tmp_path: Path) -> None:
    quantized, document, _ = run_quantize(
        tmp_path, encoder, None, mode="int8-dynamic", layout="onnxruntime"
    )
    kernels = count_kernels(quantized)
    expected = document["graphs"]["encoder"]["integer_kernels"]
    assert expected == 5
    assert kernels["DynamicQuantizeMatMul"] + kernels["MatMulIntegerToFloat"] == expected
    model = onnx.load(quantized)
    assert {node.domain for node in model.graph.node} == {""}
    assert [entry.domain for entry in model.opset_import] == [""]
    found = run_graph(quantized, make_picture(7))
    assert 0 < relative_error(run_graph(encoder, make_picture(7)), found) < 0.05
