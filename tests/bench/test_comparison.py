"""The report of bench.export: both sides beside each other, and the bounds."""

import json
from pathlib import Path

import pytest

from bench import comparison
from bench.comparison import GRAPHS, Report, Side, compare
from bench.process import Usage


def side(name: str, wall: list[float], memory: int) -> Side:
    return Side(
        name=name,
        usage=[Usage(wall_seconds=one, cpu_seconds=one, peak_bytes=memory) for one in wall],
        verification_seconds=12.5 if name == "ours" else None,
        bytes=dict.fromkeys(GRAPHS, 100),
        load_seconds={graph: [0.1] for graph in GRAPHS},
        run_seconds={graph: [1.0] for graph in GRAPHS},
    )


def report_of(ours: Side, theirs: Side) -> Report:
    return Report(
        model="sam2.1_hiera_tiny",
        rounds=3,
        latency_rounds=7,
        threads=2,
        runtime="onnxruntime 0",
        ours=ours,
        theirs=theirs,
        differences={"encoder": {"image_embed": 1e-6}, "decoder": {"masks": 2e-6}},
        machine={"processor": "abacus"},
    )


@pytest.mark.parametrize(
    ("wall", "memory", "missed"),
    [
        ([9.0, 30.0, 1.0], 70, set()),
        ([10.1, 30.0, 1.0], 70, {"wall time"}),
        ([9.0, 30.0, 1.0], 71, {"peak memory"}),
    ],
)
def test_the_median_must_keep_the_bound(wall: list[float], memory: int, missed: set[str]) -> None:
    report = report_of(side("ours", wall, memory), side("theirs", [20.0, 20.0, 50.0], 100))
    assert {line.name for line in report.lines() if not line.ok} == missed
    assert report.ok is not bool(missed)
    shown = {row[0]: row[4] for row in comparison.table(report)[1]}
    assert {name for name, promise in shown.items() if "MISSED" in promise} == missed


def test_an_absolute_bound_is_on_ours_alone() -> None:
    line = compare("load", "s", [0.31], [9.0], bound=0.3, absolute=True)
    assert not line.ok


def test_a_slow_round_of_both_sides_does_not_count() -> None:
    line = compare("latency", "s", [1.0, 9.0, 9.0], [1.0, 9.0, 8.0], bound=1.05)
    assert (line.ours, line.theirs, line.ratio) == (9.0, 8.0, 1.0)
    assert line.ok


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    report = report_of(side("ours", [5.0], 1), side("theirs <other>", [20.0], 100))
    data, page = comparison.write(report, tmp_path / "bench")
    told = json.loads(data.read_text())
    assert told["ok"] is True
    assert told["lines"][0] == {
        "name": "wall time",
        "unit": "s",
        "ours": 5.0,
        "theirs": 20.0,
        "bound": 0.5,
        "absolute": False,
        "ratio": 0.25,
        "ok": True,
    }
    assert told["ours"]["usage"][0]["wall_seconds"] == 5.0
    text = page.read_text()
    assert "theirs &lt;other&gt;" in text
    assert "<other>" not in text
    assert "http" not in text


def test_verification_is_shown_apart() -> None:
    report = report_of(side("ours", [5.0], 1), side("theirs", [20.0], 100))
    assert comparison.table(report)[1][-1][:3] == ("verification, apart", "12.50 s", "none")
