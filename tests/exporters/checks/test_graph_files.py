"""Graphs are held against their contract before they run."""

from pathlib import Path
from typing import Any

import onnx
import pytest

from exporters.checks.graph_files import read_graphs
from exporters.protocol import NOT_VERIFIED, StageError, Step
from tests.exporters.graphs.models import CONTRACT, GOLDEN, make_model

FILE = {**GOLDEN, "file": "encoder.onnx"}
SMALL: dict[str, Any] = {**CONTRACT, "name": "small", "graphs": [FILE]}


def _step(folder: Path, opset: int = 18) -> Step:
    onnx.save_model(make_model(), folder / "encoder.onnx")
    return Step(
        step="small/verify",
        stage="verify",
        modules=(),
        params={"opset": opset},
        inputs={"encoder.onnx": folder / "encoder.onnx"},
        out=folder,
        threads=1,
        seed=0,
    )


def test_a_faithful_graph_is_described(tmp_path: Path) -> None:
    (found,) = read_graphs(_step(tmp_path), SMALL).values()
    assert found.files == (found.path,)
    assert found.figures["nodes"] == 2
    assert found.figures["ops"] == {"Relu": 1, "Reshape": 1}
    assert found.figures["bytes"] == (tmp_path / "encoder.onnx").stat().st_size


def test_a_graph_of_another_opset_is_refused_unless_it_is_untouched(tmp_path: Path) -> None:
    step = _step(tmp_path, opset=21)
    with pytest.raises(StageError, match="The graph encoder is not the contract small's") as failed:
        read_graphs(step, SMALL)
    assert failed.value.exit_code == NOT_VERIFIED
    assert failed.value.why == "Its opset is 18, not 21."
    assert set(read_graphs(step, SMALL, ["encoder"])) == {"encoder"}
