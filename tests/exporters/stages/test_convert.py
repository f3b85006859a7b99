"""Conversion changes the structure only, whichever tool does it."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from exporters.protocol import StageError
from tests.exporters.shrunken import Done, shrink


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
