"""Graphs of the user's own: which can be quantized, how they are handed on, what was lost."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from exporters.graphs.sessions import Session
from exporters.graphs.structure import count_ops
from exporters.protocol import Result, StageError
from exporters.stages import inspect_graph
from tests.quantize.own_graphs import CHANNELS, HEIGHT, WIDTH, make_graph, picture, save
from tests.quantize.small_steps import make_step


def inspect(
    folder: Path,
    path: Path,
    *,
    sides: Sequence[int] = (),
    data: Mapping[str, Path] | None = None,
) -> tuple[Result, Path]:
    """Runs the stage; returns its result and the graph that it wrote."""
    inputs = {"original/mine.onnx": path}
    inputs |= {f"original/{name}": file for name, file in (data or {}).items()}
    params = {
        "source": "original/mine.onnx",
        "file": "small.onnx",
        "shown": "my/mine.onnx",
        "sides": list(sides),
    }
    step = make_step(folder, "inspect_graph", params, inputs)
    return inspect_graph.run(step), step.out / "small.onnx"


def same(first: Path, second: Path) -> bool:
    given = {"image": picture()}
    made = [Session(path, 1).run(given)["embed"] for path in (first, second)]
    return bool(np.array_equal(made[0], made[1]))


def test_a_graph_is_described_as_a_contract_would(tmp_path: Path) -> None:
    path = save(tmp_path, make_graph())
    result, made = inspect(tmp_path / "step", path)
    assert result.outputs == ["small.onnx"]
    assert result.metrics == {
        "graph": {
            "name": "model",
            "file": "small.onnx",
            "forbidden_ops": [],
            "inputs": [{"name": "image", "dtype": "float32", "dims": [1, 3, HEIGHT, WIDTH]}],
            "outputs": [{"name": "embed", "dtype": "float32", "dims": [1, 6, 8]}],
        },
        "height": HEIGHT,
        "width": WIDTH,
        "opset": 18,
        "metadata": {"mine": "kept"},
        "data": [],
    }
    assert same(path, made)


def test_constants_become_initializers_and_shapes_are_there(tmp_path: Path) -> None:
    model = make_graph()
    nodes = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in model.graph.initializer
    ]
    kept = list(model.graph.node)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend([*nodes, *kept])
    path = save(tmp_path, model)
    _, made = inspect(tmp_path / "step", path)
    prepared = onnx.load(made)
    assert "Constant" not in count_ops(prepared)
    assert {tensor.name for tensor in prepared.graph.initializer} >= {"kernel", "weight"}
    shapes = {one.name: one.type.tensor_type.shape for one in prepared.graph.value_info}
    assert [dim.dim_value for dim in shapes["tokens"].dim] == [1, 6, CHANNELS]
    assert [one.name for one in prepared.graph.input] == ["image"]
    assert same(path, made)


def test_initializers_among_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    model = make_graph()
    model.graph.input.extend(
        helper.make_tensor_value_info(one.name, one.data_type, list(one.dims))
        for one in model.graph.initializer
    )
    path = save(tmp_path, model)
    result, made = inspect(tmp_path / "step", path)
    assert [one["name"] for one in result.metrics["graph"]["inputs"]] == ["image"]
    assert [one.name for one in onnx.load(made).graph.input] == ["image"]


def test_open_sides_are_those_that_are_given(tmp_path: Path) -> None:
    path = save(tmp_path, make_graph(("N", 3, "H", "W")))
    result, made = inspect(tmp_path / "step", path, sides=(HEIGHT, WIDTH))
    assert result.metrics["graph"]["inputs"][0]["dims"] == [1, 3, HEIGHT, WIDTH]
    assert (result.metrics["height"], result.metrics["width"]) == (HEIGHT, WIDTH)
    [output] = result.metrics["graph"]["outputs"]
    assert output["dims"][2] == 8
    assert all(isinstance(dim, str) for dim in output["dims"][:2])
    # The graph itself stays open.
    assert [dim.dim_param for dim in onnx.load(made).graph.input[0].type.tensor_type.shape.dim][
        2:
    ] == ["H", "W"]
    assert same(path, made)


@pytest.mark.parametrize("data", ["weights.bin", "small.onnx.data"])
def test_weights_in_another_file_go_along(tmp_path: Path, data: str) -> None:
    path = save(tmp_path / "own", make_graph(), data)
    result, made = inspect(tmp_path / "first", path)
    assert result.outputs == []
    assert result.metrics["data"] == [data]
    assert result.metrics["graph"]["data"] == "small.onnx.data"
    assert not made.exists()
    result, made = inspect(tmp_path / "second", path, data={data: path.with_name(data)})
    assert result.outputs == ["small.onnx", "small.onnx.data"]
    path.with_name(data).rename(tmp_path / "gone")
    whole = save(tmp_path / "whole", make_graph())
    assert same(whole, made)


def refused(folder: Path, path: Path, **given: Any) -> str:
    with pytest.raises(StageError) as caught:
        inspect(folder / "step", path, **given)
    assert caught.value.exit_code == 2
    assert caught.value.next
    assert "my/mine.onnx" in caught.value.what
    return str(caught.value)


@pytest.mark.parametrize(
    ("dims", "dtype", "shown"),
    [
        ((4, 3, HEIGHT, WIDTH), TensorProto.FLOAT, "image float32 [4, 3, 32, 48]"),
        ((1, 1, HEIGHT, WIDTH), TensorProto.FLOAT, "image float32 [1, 1, 32, 48]"),
        ((1, HEIGHT, WIDTH, 3), TensorProto.FLOAT, "image float32 [1, 32, 48, 3]"),
        ((1, "C", HEIGHT, WIDTH), TensorProto.FLOAT, "image float32 [1, 'C', 32, 48]"),
        ((3, HEIGHT, WIDTH), TensorProto.FLOAT, "image float32 [3, 32, 48]"),
        ((1, 3, HEIGHT, WIDTH), TensorProto.FLOAT16, "image float16 [1, 3, 32, 48]"),
        ((1, 3, HEIGHT, WIDTH), TensorProto.UINT8, "image uint8 [1, 3, 32, 48]"),
        ((1, 3, 0, WIDTH), TensorProto.FLOAT, "image float32 [1, 3, 0, 48]"),
    ],
)
def test_what_is_no_picture_is_refused(
    tmp_path: Path, dims: Sequence[int | str], dtype: int, shown: str
) -> None:
    said = refused(tmp_path, save(tmp_path, make_graph(dims, dtype)))
    assert "does not take one picture" in said
    assert shown in said


def test_two_inputs_are_refused_and_named(tmp_path: Path) -> None:
    model = make_graph()
    model.graph.input.append(
        helper.make_tensor_value_info("points", TensorProto.FLOAT, [1, "N", 2])
    )
    assert "points float32 [1, 'N', 2]" in refused(tmp_path, save(tmp_path, model))


@pytest.mark.parametrize(
    ("dims", "sides", "said"),
    [
        ((1, 3, HEIGHT, "W"), (), "takes pictures of any width"),
        ((1, 3, "H", "W"), (), "takes pictures of any height"),
        ((1, 3, HEIGHT, WIDTH), (HEIGHT, HEIGHT), "of width 48, not 32"),
        ((1, 3, HEIGHT, "W"), (64, 64), "of height 32, not 64"),
    ],
)
def test_sides_that_are_missing_or_contradict_are_told(
    tmp_path: Path, dims: Sequence[int | str], sides: Sequence[int], said: str
) -> None:
    text = refused(tmp_path, save(tmp_path, make_graph(dims)), sides=sides)
    assert said in text
    assert "--image-input-dimension" in text


@pytest.mark.parametrize("operator", ["QuantizeLinear", "DynamicQuantizeLinear"])
def test_a_quantized_graph_is_refused(tmp_path: Path, operator: str) -> None:
    model = make_graph()
    if operator == "QuantizeLinear":
        model.graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "scale"))
        node = helper.make_node(operator, ["embed", "scale"], ["q"])
    else:
        node = helper.make_node(operator, ["embed"], ["q", "s", "z"])
    model.graph.node.append(node)
    model.graph.output.append(helper.make_tensor_value_info("q", TensorProto.UINT8, None))
    said = refused(tmp_path, save(tmp_path, model))
    assert "is quantized already" in said
    assert operator in said


def lower_weight(model: ModelProto) -> None:
    weight = numpy_helper.to_array(model.graph.initializer[1]).astype(np.float16)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(weight, "weight"))


def lower_constant(model: ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(8, np.float16), "half")
    model.graph.node.append(helper.make_node("Constant", [], ["half"], value=tensor))


def lower_cast(model: ModelProto) -> None:
    node = helper.make_node("Cast", ["embed"], ["half"], to=TensorProto.BFLOAT16)
    model.graph.node.append(node)


@pytest.mark.parametrize(
    ("lower", "said"),
    [(lower_weight, "float16"), (lower_constant, "float16"), (lower_cast, "bfloat16")],
)
def test_a_graph_in_half_precision_is_refused(
    tmp_path: Path, lower: Callable[[ModelProto], None], said: str
) -> None:
    model = make_graph()
    lower(model)
    text = refused(tmp_path, save(tmp_path, model))
    assert f"my/mine.onnx is in {said}" in text
    assert "starts from float32" in text


@pytest.mark.parametrize("content", [b"", b"no graph at all", b"\x08\x08"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(content)
    assert "is not an ONNX model" in refused(tmp_path, path)


def test_a_shape_that_nothing_tells_is_refused(tmp_path: Path) -> None:
    model = make_graph()
    model.graph.node[3].op_type = "Mystery"
    said = refused(tmp_path, save(tmp_path, model))
    assert "The shape of the output embed of my/mine.onnx cannot be inferred" in said


def test_shapes_that_contradict_each_other_are_told(tmp_path: Path) -> None:
    model = make_graph()
    wrong = np.zeros((CHANNELS + 1, 8), np.float32)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(wrong, "weight"))
    said = refused(tmp_path, save(tmp_path, model))
    assert "The shapes of my/mine.onnx cannot be inferred" in said
    assert "MatMul" in said


@pytest.mark.parametrize("place", ["../weights.bin", "/weights.bin", "a\\b.bin"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, place: str) -> None:
    model = make_graph()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    path = tmp_path / "mine.onnx"
    path.write_bytes(model.SerializeToString())
    assert "not a file in or below its own folder" in refused(tmp_path, path)
