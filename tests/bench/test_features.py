"""The report of bench.dinov2: what is promised, where the time goes, and its files."""

import json
from pathlib import Path

import pytest

from bench import features
from bench.dinov2 import EAGER
from bench.features import Operator, Report, shorten
from bench.measured import Side

PLAIN, SLOWER = "plain export, opset 20", "plain export, opset 18"


def side(name: str, seconds: list[float], *, file: int | None = 10) -> Side:
    loads = [0.1] * len(seconds) if file else []
    return Side(
        name=name,
        runtime="a runtime",
        run_seconds=seconds,
        peak_bytes=[100] * len(seconds),
        load_seconds=loads,
        file_bytes=file,
    )


OURS = {
    "products": Operator(seconds=0.8, nodes=4, products=80_000_000_000),
    "Softmax": Operator(seconds=0.19, nodes=2),
    "Add": Operator(seconds=0.006, nodes=3),
    "Mul": Operator(seconds=0.004, nodes=2),
}


PLAINLY = {
    "products": Operator(seconds=1.0, nodes=4, products=80_000_000_000),
    "Expand": Operator(seconds=1.0, nodes=1),
}


def report_of(seconds: list[float], *, plain: str = PLAIN) -> Report:
    return Report(
        target="a/target",
        rounds=3,
        threads=2,
        ours=side("ours", seconds),
        plain=side(plain, [1.0, 1.0, 10.0]),
        slower=[side(SLOWER, [2.0, 2.0, 20.0])],
        eager=side(EAGER, [4.0, 4.0, 40.0], file=None),
        nodes={"ours": 12, plain: 345},
        profiles={"ours": OURS, plain: PLAINLY},
        differences={"ours": 1e-6, plain: 2e-6, SLOWER: 3e-6},
        machine={"processor": "abacus"},
    )


@pytest.mark.parametrize(
    ("seconds", "ok", "stretch"),
    [(0.9, True, "reached"), (0.91, True, "not reached"), (1.05, True, "not reached")],
)
def test_what_is_promised_and_what_was_hoped_for(seconds: float, ok: bool, stretch: str) -> None:
    report = report_of([seconds, seconds, 10 * seconds])
    assert report.ok is ok
    assert report.stretch == f"hoped for 0.9x: {stretch}"
    assert report.document()["ok"] is ok


def test_what_is_missed_is_said() -> None:
    report = report_of([1.06, 1.06, 10.6])
    assert not report.ok
    titles, rows = features.table(report)
    shown = {row[0]: row[1:] for row in rows}
    assert shown["share of its time"] == ("-", "1.060x", "0.530x", "0.265x", "<= 1.05x MISSED")
    assert "not reached" in titles[-1]


def test_short_operators_are_one() -> None:
    found = shorten(OURS)
    assert list(found) == ["products", "Softmax", "all others"]
    assert found["all others"] == Operator(seconds=0.01, nodes=5)
    assert shorten(PLAINLY) == PLAINLY


def test_the_table_says_where_the_time_goes() -> None:
    titles, rows = features.table(report_of([0.9, 0.9, 9.0]))
    shown = {row[0]: row[1:] for row in rows}
    assert titles[:-1] == ("", "ours", PLAIN, SLOWER, EAGER)
    assert all(len(row) == len(titles) for row in rows)
    assert shown["nodes"][:3] == ("12", "345", "-")
    assert shown["files"][:4] == ("0.0 MB", "0.0 MB", "0.0 MB", "-")
    assert shown["in products"][:2] == (
        "800.0 ms, 80.0%, 100 GMAC/s",
        "1000.0 ms, 50.0%, 80 GMAC/s",
    )
    assert shown["in Expand"][:2] == ("-", "1000.0 ms, 50.0%")
    assert [row[0] for row in rows][-1] == "in all others"


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    data, page = features.write(report_of([0.9, 0.9, 9.0], plain="<plain>"), tmp_path / "bench")
    told = json.loads(data.read_text())
    assert told["share_of_time"] == {"<plain>": 0.9, SLOWER: 0.45, EAGER: 0.225}
    assert told["profiles"]["ours"]["Softmax"] == {"seconds": 0.19, "nodes": 2, "products": 0}
    assert told["promise"]["ok"] and told["ok"]
    text = page.read_text()
    assert "&lt;plain&gt;" in text and "<plain>" not in text
    assert "190.0 ms, 19.0%" in text
    assert "http" not in text
