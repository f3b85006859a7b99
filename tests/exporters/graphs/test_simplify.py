"""Simplifiers run in a process of their own."""

import signal
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from exporters.graphs.simplify import Simplifier, simplify_apart
from exporters.protocol import StageError
from tests.exporters.shrunken import ROOT


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
