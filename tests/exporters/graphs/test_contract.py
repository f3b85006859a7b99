"""Every way in which a graph can contradict its contract is named."""

from typing import Any

import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from exporters.graphs.contract import find_faults
from exporters.graphs.structure import compare_dims, declare_outputs, infer_strictly
from exporters.protocol import StageError

CONTRACT = {"domains": [""], "forbidden_ops": ["If", "OneHot"]}
GOLDEN: dict[str, Any] = {
    "name": "encoder",
    "inputs": [{"name": "x", "dtype": "float32", "dims": ["batch", 4]}],
    "outputs": [{"name": "y", "dtype": "float32", "dims": ["batch", 2, 2]}],
    "forbidden_ops": ["Shape"],
}


def _model(
    *,
    opset: int = 18,
    x: str = "x",
    dims: tuple[Any, ...] = ("batch", 2, 2),
    dtype: int = TensorProto.FLOAT,
    extra: tuple[onnx.NodeProto, ...] = (),
    domain: str = "",
) -> ModelProto:
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [0, 2, 2])
    nodes = [
        helper.make_node("Relu", [x], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["y"]),
        *extra,
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info(x, dtype, ["batch", 4])],
        [helper.make_tensor_value_info("y", dtype, dims)],
        [shape],
        value_info=[helper.make_tensor_value_info("r", dtype, ["batch", 4])],
    )
    opsets = [helper.make_opsetid("", opset)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_a_faithful_graph_has_no_fault() -> None:
    assert find_faults(_model(), GOLDEN, CONTRACT, 18) == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (_model(opset=17), "its opset is 17, not 18"),
        (_model(x="image"), "its inputs are image, the contract's x"),
        (_model(dims=("batch", 2, "w")), "output y is ['batch', 2, 'w']"),
        (_model(dims=("b", 2, 2)), "output y is ['b', 2, 2]"),
        (_model(dtype=TensorProto.FLOAT16), "input x is float16, not float32"),
        (_model(domain="com.microsoft"), "operator domains com.microsoft"),
        (_model(extra=(helper.make_node("Shape", ["x"], ["s"]),)), "operators: 1 Shape"),
    ],
)
def test_a_fault_is_named(model: ModelProto, words: str) -> None:
    assert any(words in fault for fault in find_faults(model, GOLDEN, CONTRACT, 18))


def test_an_operator_inside_a_branch_counts() -> None:
    inner = helper.make_graph(
        [helper.make_node("OneHot", ["a", "b", "c"], ["z"])],
        "then",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["x"], ["q"], then_branch=inner, else_branch=inner)
    (fault,) = find_faults(_model(extra=(node,)), GOLDEN, CONTRACT, 18)
    assert fault == "it has forbidden operators: 1 If, 2 OneHot"


def test_a_wrong_intermediate_shape_is_found() -> None:
    model = _model()
    model.graph.value_info[0].CopyFrom(helper.make_tensor_value_info("r", TensorProto.FLOAT, []))
    (fault,) = find_faults(model, GOLDEN, CONTRACT, 18)
    assert fault == "1 declared intermediate shapes are wrong, first r"


def test_a_static_dim_must_be_inferred() -> None:
    golden = {**GOLDEN, "outputs": [{**GOLDEN["outputs"][0], "dims": ["batch", 4, 1]}]}
    (fault,) = find_faults(_model(dims=("batch", 4, 1)), golden, CONTRACT, 18)
    assert "its inferred shape is ['batch', 2, 2]" in fault
    with pytest.raises(StageError, match="another output y than its contract"):
        declare_outputs(infer_strictly(_model()), golden)


def test_strict_inference_fails_on_contradictions() -> None:
    model = _model(extra=(helper.make_node("MatMul", ["x", "x"], ["m"]),))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]))
    with pytest.raises(StageError, match="Strict shape inference fails"):
        infer_strictly(model)


def test_dims_are_compared_axis_by_axis() -> None:
    assert compare_dims([None, 3], ["batch", 3]) == ""
    assert compare_dims(["batch", 3], ["n", 3]) == ""
    assert compare_dims([1, 3], ["batch", 3]) != ""
    assert compare_dims([None, 3], [1, 3]) != ""
    assert compare_dims(None, [1]) != ""
    assert compare_dims([1], [1, 1]) != ""
