"""The structure of a graph: constants, shapes, and what is set aside and put back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.graphs.contract import find_faults
from exporters.graphs.structure import (
    compare_dims,
    count_ops,
    declare_outputs,
    dims_of,
    drop_unused,
    dtype_of,
    infer_strictly,
    lift_constants,
    name_nodes,
    opsets_of,
    read_graph,
    rejoin,
    set_aside,
    set_metadata,
    write_graph,
)
from exporters.protocol import StageError
from tests.exporters.graphs.models import CONTRACT, GOLDEN, make_model
from tests.exporters.shrunken import Done, shrink


def test_a_static_dim_must_be_inferred() -> None:
    golden = {**GOLDEN, "outputs": [{**GOLDEN["outputs"][0], "dims": ["batch", 4, 1]}]}
    (fault,) = find_faults(make_model(dims=("batch", 4, 1)), golden, CONTRACT, 18)
    assert "its inferred shape is ['batch', 2, 2]" in fault
    with pytest.raises(StageError, match="another output y than its contract"):
        declare_outputs(infer_strictly(make_model()), golden)


def test_strict_inference_fails_on_contradictions() -> None:
    model = make_model(extra=(helper.make_node("MatMul", ["x", "x"], ["m"]),))
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


def test_weights_come_back_as_they_were(exported: Callable[..., Done]) -> None:
    model = onnx.load_model(exported()["decoder.onnx"])
    lift_constants(model)
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    structure, aside = set_aside(model)
    assert structure.ByteSize() < model.ByteSize() / 50
    assert not {tensor.name for tensor in structure.graph.initializer} & set(aside)
    rejoin(structure, aside)
    after = {tensor.name: numpy_helper.to_array(tensor) for tensor in structure.graph.initializer}
    used = {name for node in structure.graph.node for name in node.input}
    assert used & set(before) <= set(after)
    assert all(np.array_equal(after[name], before[name]) for name in after)
    assert [value.name for value in structure.graph.input] == [
        value["name"] for value in shrink("image")["graphs"][1]["inputs"]
    ]


def test_operators_inside_branches_are_counted() -> None:
    inner = helper.make_graph([helper.make_node("Neg", ["r"], ["n"])], "inner", [], [])
    model = make_model(extra=(helper.make_node("If", ["c"], ["i"], then_branch=inner),))
    model.graph.node.add(op_type="Own", domain="mine", output=["o"])
    assert count_ops(model) == {"If": 1, "Neg": 1, "Relu": 1, "Reshape": 1, "mine::Own": 1}


def test_what_no_output_depends_on_is_dropped() -> None:
    model = make_model(
        extra=(
            helper.make_node("Neg", ["r"], ["idle"]),
            helper.make_node("Abs", ["idle"], ["more idle"]),
        )
    )
    model.graph.initializer.add(name="unused")
    drop_unused(model)
    assert [node.op_type for node in model.graph.node] == ["Relu", "Reshape"]
    assert [tensor.name for tensor in model.graph.initializer] == ["shape"]


def test_names_of_nodes_are_unique() -> None:
    model = make_model()
    model.graph.node[0].name = model.graph.node[1].name = "same"
    model.graph.node.add(op_type="Neg", name="own", output=["n"])
    name_nodes(model)
    assert [node.name for node in model.graph.node] == ["r", "y", "own"]


def test_a_graph_says_only_what_it_is_told() -> None:
    model = make_model()
    model.producer_version, model.doc_string, model.graph.doc_string = "9", "path", "date"
    model.metadata_props.add(key="host", value="mine")
    set_metadata(model, {"b": "2", "a": "1"})
    assert [(one.key, one.value) for one in model.metadata_props] == [("a", "1"), ("b", "2")]
    assert (model.producer_name, model.producer_version) == ("modelkiln", "")
    assert not model.doc_string and not model.graph.doc_string


def test_values_are_described_as_contracts_do() -> None:
    model = make_model()
    (x,) = model.graph.input
    assert (dims_of(x), dtype_of(x)) == (["batch", 4], "float32")
    x.type.tensor_type.shape.dim[0].ClearField("dim_param")
    assert dims_of(x) == [None, 4]
    x.type.tensor_type.ClearField("shape")
    assert dims_of(x) is None
    assert opsets_of(make_model(opset=17, domain="mine")) == {"": 17, "mine": 1}


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.onnx"
    path.write_bytes(b"<html>")
    with pytest.raises(StageError, match=r"page\.onnx is not an ONNX model"):
        read_graph(path)
    write_graph(make_model(), path)
    assert read_graph(path) == make_model()
