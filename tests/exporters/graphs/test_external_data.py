"""Weights beside a graph lie where the rule says, and nowhere else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from exporters.graphs.contract import find_faults
from exporters.graphs.external_data import ALIGNMENT, collect, find_data_faults, write_files
from exporters.graphs.sessions import Session
from exporters.graphs.structure import read_graph
from exporters.protocol import StageError
from tests.exporters.shrunken import ARCHITECTURE, PATCHES, UPSTREAM, Done, run_stage, shrink

# 64 KiB are 128 x 128 values. `a` is exactly that large, `small` one row less.
SHAPES = {
    "b": (128, 200),
    "a": (128, 128),
    "small": (127, 128),
    "c": (200, 129),
    "unused": (300, 80),
}
GOLDEN: dict[str, Any] = {
    "name": "features",
    "file": "features.onnx",
    "data": "features.onnx.data",
    "forbidden_ops": [],
    "inputs": [{"name": "x", "dtype": "float32", "dims": ["batch", 127]}],
    "outputs": [{"name": "y", "dtype": "float32", "dims": ["batch", 129]}],
}
PLAIN = {name: value for name, value in GOLDEN.items() if name != "data"}
CONTRACT: dict[str, Any] = {"domains": [""], "forbidden_ops": []}
GRAPH, DATA = GOLDEN["file"], GOLDEN["data"]
END = 7 * ALIGNMENT + 4 * 300 * 80


def _weights() -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(0)
    drawn = {
        name: random.standard_normal(shape, dtype=np.float32) / np.float32(10)
        for name, shape in SHAPES.items()
    }
    return {**drawn, "index": np.arange(8200, dtype=np.int64) % 7}


def _model() -> ModelProto:
    """`x` times `small`, `a`, `b` and `c`; a large Constant node and integers have a part too."""
    table = numpy_helper.from_array(
        np.linspace(0, 1, 127 * 150, dtype=np.float32).reshape(150, 127)
    )
    nodes = [
        helper.make_node("Constant", [], ["table"], value=table),
        helper.make_node("ReduceMean", ["table"], ["row"], keepdims=1, axes=[0]),
        helper.make_node("Add", ["x", "row"], ["s"]),
        *(
            helper.make_node("MatMul", [before, name], [after])
            for before, name, after in (("s", "small", "t"), ("t", "a", "u"), ("u", "b", "v"))
        ),
        helper.make_node("MatMul", ["v", "c"], ["w"]),
        helper.make_node("Cast", ["index"], ["numbers"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["numbers"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["w", "largest"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "features",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 127])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 129])],
        [numpy_helper.from_array(value, name) for name, value in _weights().items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _trace(folder: Path, *, scattered: bool = True) -> Path:
    """The graph as an exporter leaves it: whole, or with a file for each of its tensors."""
    folder.mkdir()
    path = folder / "graph.onnx"
    onnx.save_model(
        _model(),
        path,
        save_as_external_data=scattered,
        all_tensors_to_one_file=False,
        size_threshold=1024,
        convert_attribute=True,
    )
    assert len(list(folder.iterdir())) == (len(SHAPES) + 3 if scattered else 1)
    return path


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The graph and its data file, in a folder of their own."""
    out = tmp_path / "written"
    out.mkdir()
    collect(_trace(tmp_path / "trace"), GOLDEN, out)
    return out


def _run(path: Path) -> NDArray[Any]:
    x = np.linspace(-1, 1, 3 * 127, dtype=np.float32).reshape(3, 127)
    return Session(path, 1).run({"x": x})["y"]


def test_the_data_file_follows_the_rule(written: Path) -> None:
    model = read_graph(written / GRAPH)
    places = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in model.graph.initializer
    }
    sizes = {name: value.nbytes for name, value in _weights().items()}
    blocks = {"a": 0, "b": 1, "c": 3, "index": 5, "unused": 7}
    offsets = {name: block * ALIGNMENT for name, block in blocks.items()}
    assert places == {
        "small": {},
        **{
            name: {"location": DATA, "offset": str(offset), "length": str(sizes[name])}
            for name, offset in offsets.items()
        },
    }
    content = (written / DATA).read_bytes()
    assert len(content) == END
    for name, value in _weights().items():
        if name in offsets:
            start, end = offsets[name], offsets[name] + sizes[name]
            assert content[start:end] == value.tobytes()
            assert not any(content[end : -(-end // ALIGNMENT) * ALIGNMENT])
    assert find_data_faults(model, GOLDEN, written / DATA) == []


def test_onnx_and_onnxruntime_read_it_through_links(written: Path, tmp_path: Path) -> None:
    """Inputs of a step are links to files that lie elsewhere under other names."""
    loaded = onnx.load_model(written / GRAPH)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.graph.initializer}
    assert all(np.array_equal(found[name], value) for name, value in _weights().items())
    for name, elsewhere in ((GRAPH, "one"), (DATA, "two")):
        target = tmp_path / elsewhere / "0123abcd"
        target.parent.mkdir()
        target.write_bytes((written / name).read_bytes())
        (tmp_path / name).symlink_to(target)
    whole = tmp_path / "whole.onnx"
    onnx.save_model(_model(), whole)
    np.testing.assert_array_equal(_run(tmp_path / GRAPH), _run(whole))


def test_however_it_was_traced_it_is_the_same_bytes(written: Path, tmp_path: Path) -> None:
    out = tmp_path / "other"
    out.mkdir()
    traced = _trace(tmp_path / "whole", scattered=False)
    collect(traced, GOLDEN, out)
    assert not traced.parent.exists()
    assert (out / DATA).read_bytes() == (written / DATA).read_bytes()
    assert (out / GRAPH).read_bytes() == (written / GRAPH).read_bytes()


def test_a_graph_without_a_data_file_is_one_file(tmp_path: Path) -> None:
    traced = _trace(tmp_path / "trace", scattered=False)
    before = traced.read_bytes()
    collect(traced, PLAIN, tmp_path)
    assert (tmp_path / GRAPH).read_bytes() == before
    assert not (tmp_path / DATA).exists()


def test_a_graph_over_2_gb_needs_a_data_file(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="features is larger than the 2 GB") as failure:
        collect(_trace(tmp_path / "trace"), PLAIN, tmp_path)
    assert "features.onnx" in failure.value.why
    assert "`data`" in failure.value.next


def test_a_file_that_ends_too_early_is_told(tmp_path: Path) -> None:
    traced = _trace(tmp_path / "trace")
    file = traced.with_name("b")
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(StageError, match="the weight b ends 5 bytes too early"):
        collect(traced, GOLDEN, tmp_path)


def _move(name: str, **entries: Any) -> Callable[[Path, ModelProto], None]:
    """Changes what the graph says of a tensor."""

    def change(_: Path, model: ModelProto) -> None:
        (tensor,) = [one for one in model.graph.initializer if one.name == name]
        found = {entry.key: entry.value for entry in tensor.external_data} | entries
        tensor.raw_data = b""
        set_external_data(
            tensor, found["location"], int(found["offset"]), int(found.get("length", 0)) or None
        )
        tensor.ClearField("raw_data")

    return change


def _take_in(folder: Path, model: ModelProto) -> None:
    whole = onnx.load_model(folder / GRAPH)
    (tensor,) = [one for one in model.graph.initializer if one.name == "c"]
    (found,) = [one for one in whole.graph.initializer if one.name == "c"]
    tensor.CopyFrom(found)


def _put_out(_: Path, model: ModelProto) -> None:
    (node,) = [node for node in model.graph.node if node.op_type == "Constant"]
    node.attribute[0].t.name = "table"
    set_external_data(node.attribute[0].t, DATA, 0, 127 * 150 * 4)


def _write(position: int, content: bytes) -> Callable[[Path, ModelProto], None]:
    def change(folder: Path, _: ModelProto) -> None:
        with (folder / DATA).open("r+b") as file:
            file.seek(position)
            file.write(content)

    return change


def _cut(folder: Path, _: ModelProto) -> None:
    with (folder / DATA).open("r+b") as file:
        file.truncate(END - 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_move("b", offset=2 * ALIGNMENT), f"first b: {DATA} at 131072 + 102400, not"),
        (_move("b", length=102396), f"first b: {DATA} at 65536 + 102396, not"),
        (_move("b", location="other.data"), "first b: other.data at 65536 + 102400, not"),
        (_move("small", location=DATA, offset=0), "first small: "),
        (_take_in, "1 weights do not lie where they should, first c: inside the graph, not"),
        (_put_out, "first table: "),
        (_write(END, b"\0"), f"its data file has {END + 1} bytes, not {END}"),
        (_cut, f"its data file has {END - 1} bytes, not {END}"),
        (_write(3 * ALIGNMENT - 1, b"\1"), "between the weights, before byte 196608"),
    ],
)
def test_a_wrong_layout_is_named(
    change: Callable[[Path, ModelProto], None], words: str, written: Path
) -> None:
    model = read_graph(written / GRAPH)
    change(written, model)
    (fault,) = find_data_faults(model, GOLDEN, written / DATA)
    assert words in fault


def test_a_contract_without_a_data_file_takes_no_weights_elsewhere(written: Path) -> None:
    (fault,) = find_faults(read_graph(written / GRAPH), PLAIN, CONTRACT, 17)
    assert fault.startswith("5 weights do not lie where they should, first a: ")


def test_shapes_are_judged_without_the_weights(written: Path) -> None:
    model = read_graph(written / GRAPH)
    assert find_faults(model, GOLDEN, CONTRACT, 17, written / DATA) == []
    whole = onnx.load_model(written / GRAPH)
    whole.graph.initializer[0].dims[1] += 1
    (fault,) = find_faults(whole, PLAIN, CONTRACT, 17)
    assert fault.startswith("strict shape inference fails; ONNX says: ")


@pytest.mark.parametrize("simplifier", ["onnxsim", "onnxslim"])
def test_conversion_moves_weights_from_file_to_file(
    simplifier: str, written: Path, scratch: Callable[[str], Path]
) -> None:
    params = {"simplifier": simplifier, "opset": 17, "graphs": [GOLDEN], "metadata": {}}
    inputs = {name: written / name for name in (GRAPH, DATA)}
    done = run_stage(scratch("convert"), "convert", ["exporters.stages.convert"], params, inputs)
    assert done.result["outputs"] == [GRAPH, DATA]
    model = read_graph(done[GRAPH])
    assert find_faults(model, GOLDEN, CONTRACT, 17, done[DATA]) == []
    names = {tensor.name for tensor in model.graph.initializer}
    assert {"a", "b", "c", "index", "small"} <= names and "unused" not in names
    assert done[DATA].stat().st_size < (written / DATA).stat().st_size
    np.testing.assert_array_equal(_run(done[GRAPH]), _run(written / GRAPH))
    both = done[GRAPH].stat().st_size + done[DATA].stat().st_size
    assert done.metrics["graphs"]["features"]["bytes"] == both


def test_conversion_asks_for_the_data_file(written: Path, scratch: Callable[[str], Path]) -> None:
    params = {"simplifier": "none", "opset": 17, "graphs": [GOLDEN], "metadata": {}}
    with pytest.raises(StageError, match=r"not given its input features\.onnx\.data"):
        run_stage(
            scratch("convert"),
            "convert",
            ["exporters.stages.convert"],
            params,
            {GRAPH: written / GRAPH},
        )


def test_writing_again_changes_nothing(written: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    write_files(read_graph(written / GRAPH), GOLDEN, again, written)
    assert (again / GRAPH).read_bytes() == (written / GRAPH).read_bytes()
    assert (again / DATA).read_bytes() == (written / DATA).read_bytes()


@pytest.fixture(scope="module")
def encoder(scratch: Callable[[str], Path], weights: Path, converted: Callable[..., Done]) -> Done:
    """A whole contract, of which the encoder has a data file: exported and converted."""
    contract = _contract()
    params = {**ARCHITECTURE, **contract, "contract": "image", "opset": 18, "upstream": UPSTREAM}
    modules = ["exporters.stages.export", "exporters.sam2.image.export"]
    inputs = {"weights.safetensors": weights, **PATCHES}
    traced = run_stage(scratch("export"), "export", modules, params, inputs)
    assert traced.result["outputs"] == ["decoder.onnx", "encoder.data", "encoder.onnx"]
    assert traced.metrics["bytes"]["encoder"] == sum(
        traced[name].stat().st_size for name in ("encoder.onnx", "encoder.data")
    )
    return run_stage(
        scratch("convert"),
        "convert",
        ["exporters.stages.convert"],
        {
            "simplifier": "onnxsim",
            "opset": 18,
            "graphs": contract["graphs"],
            "metadata": {"model": "shrunken", "license": "Apache-2.0"},
        },
        {name: traced[name] for name in traced.result["outputs"]},
    )


def _contract() -> dict[str, Any]:
    contract = shrink("image")
    contract["graphs"][0]["data"] = "encoder.data"
    return contract


def test_only_the_place_of_the_weights_differs(
    encoder: Done, converted: Callable[..., Done]
) -> None:
    """The same graph with and without a data file."""
    usual = onnx.load_model(converted()["encoder.onnx"])
    found = onnx.load_model(encoder["encoder.onnx"])
    assert encoder["encoder.data"].stat().st_size > 10 * ALIGNMENT
    for tensor in found.graph.initializer:
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")
    assert found == usual
    assert encoder["decoder.onnx"].read_bytes() == converted()["decoder.onnx"].read_bytes()


def _files(encoder: Done) -> dict[str, Path]:
    return {name: encoder[name] for name in encoder.result["outputs"]}


def test_verification_loads_the_data_file(encoder: Done, verify: Callable[..., Done]) -> None:
    done = verify(_files(encoder), quick=True, golden=_contract())
    both = sum(encoder[name].stat().st_size for name in ("encoder.onnx", "encoder.data"))
    assert done.metrics["graphs"]["encoder"]["bytes"] == both


@pytest.mark.parametrize(
    ("position", "words"),
    [
        (ALIGNMENT, "comparisons with unpatched PyTorch failed"),
        (None, "is not the contract image's"),
    ],
)
def test_verification_fails_on_a_wrong_data_file(
    position: int | None,
    words: str,
    encoder: Done,
    verify: Callable[..., Done],
    tmp_path: Path,
) -> None:
    """Weights that are others, and bytes behind the last."""
    content = bytearray(encoder["encoder.data"].read_bytes())
    start = len(content) if position is None else position
    content[start : start + 4096] = np.full(1024, 0.5, np.float32).tobytes()
    wrong = tmp_path / "wrong"
    wrong.write_bytes(content)
    with pytest.raises(StageError, match=words) as failure:
        verify({**_files(encoder), "encoder.data": wrong}, quick=True, golden=_contract())
    assert failure.value.exit_code == 6
