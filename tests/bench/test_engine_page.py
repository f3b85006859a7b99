"""What bench.engine found, on a page and in a table."""

import json
from pathlib import Path

import pytest

from bench.engine import BOUND_BYTES, LARGEST_ONNX
from bench.engine_page import MEASURED, promise_of, table, values_of, write
from tests.bench.engine_case import graph, report, side


def test_every_graph_has_every_quantity_of_both_sides() -> None:
    fixed = graph(side(2.0, 3.0), side(2.0, 2.0))
    ranged = graph(side(1.0, 1.0), side(2.0, 2.0), name="decoder", fixed=False)
    titles, rows = table(report(fixed, ranged))
    assert titles[2:4] == ("modelkiln", "plain script")
    assert all(len(row) == len(titles) for row in rows)
    found = {(row[0], row[1]): row[2:] for row in rows}
    assert len(found) == len(rows) == 2 * (len(MEASURED) + 3)
    assert found["encoder", "wall time"] == (
        *("2.50 s", "2.00 s", "1.250x"),
        "<= 1.25x + 0.3 s ok",
    )
    assert found["encoder", "processor time"] == ("1.25 s", "1.00 s", "1.250x", "-")
    assert found["encoder", "engine"] == ("9.6 MB", "9.6 MB", "1.000x", "same bytes ok")
    assert found["decoder", "engine"][3] == "-"
    assert found["encoder", "activations on the GPU"] == ("25.0 MB", "25.0 MB", "same", "-")
    assert found["encoder", "layers"][0] == "661"


def test_the_quantities_are_those_that_they_are_called() -> None:
    one = side(10.0, 20.0, peak=7)
    assert values_of(one, "wall time") == [10.0, 20.0]
    assert values_of(one, "processor time") == [5.0, 10.0]
    assert values_of(one, "parse") == [1.0, 2.0]
    assert values_of(one, "build") == [2.0, 4.0]
    assert values_of(one, "peak memory") == [7.0, 8.0]


@pytest.mark.parametrize(("onnx", "says"), [(LARGEST_ONNX, "MISSED"), (LARGEST_ONNX + 1, "-")])
def test_what_is_missed_is_said_and_what_is_not_promised_is_not(onnx: int, says: str) -> None:
    one = graph(side(9.0, peak=BOUND_BYTES + 1), side(1.0), onnx_bytes=onnx)
    assert promise_of(one, "wall time").endswith("MISSED")
    assert promise_of(one, "peak memory").endswith(says)


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    found = report(graph(side(9.0), side(1.0), name="<one>"))
    data, page = write(found, tmp_path / "bench")
    told = json.loads(data.read_text())
    assert told == json.loads(json.dumps(found.document()))
    assert told["ok"] is False
    text = page.read_text()
    assert (data.name, page.name) == ("engine.json", "engine.html")
    assert "&lt;one&gt;, wall time: 9.00x" in text and "MISSED" in text and "<one>" not in text
    assert text.count("<svg") == 4
    # Of time and of memory something is promised: a dashed line each.
    assert text.count('class="mark"') == 2
    assert "1.7.1.116" in text and "tiny/image/onnx-fp16" in text
