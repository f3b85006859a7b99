"""The structure of a graph: constants, shapes, and what is set aside and put back."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.graphs.contract import find_faults
from exporters.graphs.structure import (
    compare_dims,
    declare_outputs,
    infer_strictly,
    lift_constants,
    rejoin,
    set_aside,
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
