"""Conversion changes the structure only, whichever tool does it."""

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.graphs.simplify import Simplifier, simplify_apart
from exporters.graphs.structure import lift_constants, rejoin, set_aside
from exporters.protocol import StageError
from tests.exporters.shrunken import ROOT, Done, shrink


@pytest.mark.parametrize("simplifier", ["onnxslim", "none"])
def test_other_simplifiers_are_verified(
    simplifier: str, converted: Callable[..., Done], verify: Callable[..., Done]
) -> None:
    done = converted("image", 18, simplifier)
    files = {graph["file"]: done[graph["file"]] for graph in shrink("image")["graphs"]}
    verify(files, quick=True)
    assert done.metrics["simplifier"] == simplifier
    usual = converted().metrics["graphs"]["encoder"]["nodes"]
    assert abs(done.metrics["graphs"]["encoder"]["nodes"] - usual) <= 20


def test_files_say_only_what_they_were_told(converted: Callable[..., Done]) -> None:
    model = onnx.load_model(converted()["decoder.onnx"])
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "license": "Apache-2.0",
        "model": "shrunken",
    }
    assert (model.producer_name, model.producer_version, model.doc_string) == ("modelkiln", "", "")
    assert not any(node.doc_string for node in model.graph.node)
    assert str(Path.cwd()).encode() not in converted()["decoder.onnx"].read_bytes()


def test_metrics_describe_the_files(converted: Callable[..., Done]) -> None:
    done = converted()
    figures = done.metrics["graphs"]["encoder"]
    assert figures["bytes"] == done["encoder.onnx"].stat().st_size
    assert figures["nodes"] == sum(figures["ops"].values())
    assert figures["opset"] == 18


def test_another_opset_is_refused(
    exported: Callable[..., Done], convert: Callable[..., Done]
) -> None:
    with pytest.raises(StageError, match="has opset 18, not 20"):
        convert(exported(), opset=20)


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


def _tiny_model() -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    node = helper.make_node("Relu", ["x"], ["y"])
    x, y = value("x", TensorProto.FLOAT, [1]), value("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([node], "encoder", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


@pytest.mark.parametrize(("tool", "other"), [("onnxsim", "onnxslim"), ("onnxslim", "onnxsim")])
def test_a_crash_names_the_other_tool(
    tool: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of the tool's name that ends its process, as native code does."""
    crash = f"import os\nos.kill(os.getpid(), {int(signal.SIGSEGV)})\n"
    (tmp_path / f"{tool}.py").write_text(crash)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    with pytest.raises(StageError, match=f"{tool} failed on encoder") as failure:
        simplify_apart(Simplifier(tool), _tiny_model(), tmp_path, "a+random0/image@opset20/convert")
    assert failure.value.exit_code == 5
    assert "signal 11" in failure.value.why
    assert failure.value.next.endswith(f": invoke build 'a/image/*' --simplifier {other}")
