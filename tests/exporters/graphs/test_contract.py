"""Every way in which a graph can contradict its contract is named."""

import pytest
from onnx import ModelProto, TensorProto, helper

from exporters.graphs.contract import find_faults
from tests.exporters.graphs.models import CONTRACT, GOLDEN, make_model


def test_a_faithful_graph_has_no_fault() -> None:
    assert find_faults(make_model(), GOLDEN, CONTRACT, 18) == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (make_model(opset=17), "its opset is 17, not 18"),
        (make_model(x="image"), "its inputs are image, the contract's x"),
        (make_model(dims=("batch", 2, "w")), "output y is ['batch', 2, 'w']"),
        (make_model(dims=("b", 2, 2)), "output y is ['b', 2, 2]"),
        (make_model(dtype=TensorProto.FLOAT16), "input x is float16, not float32"),
        (make_model(domain="com.microsoft"), "operator domains com.microsoft"),
        (make_model(extra=(helper.make_node("Shape", ["x"], ["s"]),)), "operators: 1 Shape"),
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
    (fault,) = find_faults(make_model(extra=(node,)), GOLDEN, CONTRACT, 18)
    assert fault == "it has forbidden operators: 1 If, 2 OneHot"


def test_a_wrong_intermediate_shape_is_found() -> None:
    model = make_model()
    model.graph.value_info[0].CopyFrom(helper.make_tensor_value_info("r", TensorProto.FLOAT, []))
    (fault,) = find_faults(model, GOLDEN, CONTRACT, 18)
    assert fault == "1 declared intermediate shapes are wrong, first r"
