"""A trace is of a network at rest, and of the sizes that its contract has."""

from pathlib import Path

import pytest

from exporters.graphs.tracing import check_examples
from exporters.protocol import StageError
from tests.exporters.shrunken import shrink

torch = pytest.importorskip("torch")


def test_nothing_is_left_in_training_mode() -> None:
    from exporters.graphs.tracing import Graph, trace

    class Wrong(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(1, 1)

        def eval(self) -> "Wrong":
            return self

    graph = Graph(module=Wrong(), examples=(torch.zeros(1),))
    with pytest.raises(AssertionError, match="in training mode: itself"):
        trace(graph, shrink("image")["graphs"][0], 18, Path("unused.onnx"))


def test_a_contract_of_another_size_is_refused() -> None:
    golden = shrink("image")["graphs"][0]
    with pytest.raises(StageError, match="does not fit its contract") as failure:
        check_examples(golden, [torch.zeros(1, 3, 64, 64)])
    assert "[1, 3, 128, 128]" in failure.value.why
    with pytest.raises(StageError, match="does not fit"):
        check_examples(golden, [])
