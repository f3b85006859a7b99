"""The report of bench.tracker: three sides beside each other, and what is promised."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import attention
from bench.attention import Report
from bench.measured import Side
from bench.process import Usage
from bench.tracker import EAGER


def side(name: str, seconds: list[float], memory: list[int], file: int | None = 10) -> Side:
    loads = [0.1] * len(seconds) if file else []
    return Side(
        name=name,
        runtime="a runtime",
        run_seconds=seconds,
        peak_bytes=memory,
        load_seconds=loads,
        file_bytes=file,
    )


def report_of(
    ours: Side, *, wall: float = 20.0, memory: int = 10**9, name: str = "other"
) -> Report:
    return Report(
        model="tiny",
        rounds=3,
        threads=2,
        ours=ours,
        public=side(name, [6.0, 6.0, 60.0], [1000, 1000, 2000], 100),
        eager=side(EAGER, [4.0, 5.0, 40.0], [500, 500, 500], None),
        export=[Usage(wall_seconds=wall, cpu_seconds=1.0, peak_bytes=memory)],
        facts=FACTS,
        differences={ours.name: 1e-6, name: 2e-6},
        machine={"processor": "abacus"},
    )


FACTS = {"nodes": 2491, "tables": 13, "table_bytes": 8388608, "ScatterND": 9, "Expand": 38}


GOOD = side("ours", [2.0, 2.0, 20.0], [400, 400, 800], 29_000_000)


def test_a_slow_round_of_all_sides_does_not_count() -> None:
    report = report_of(GOOD)
    assert report.times_faster(report.public) == 3.0
    assert report.times_faster(report.eager) == 2.0
    assert report.share_of_memory(report.public) == 0.4
    assert report.ok


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        (lambda: report_of(replace(GOOD, run_seconds=[2.01, 2.01, 20.1])), "times as fast"),
        (lambda: report_of(replace(GOOD, peak_bytes=[401, 401, 802])), "share of its memory"),
        (lambda: report_of(replace(GOOD, file_bytes=29_000_001)), "file"),
        (lambda: report_of(GOOD, wall=60.1), "export of four graphs"),
        (lambda: report_of(GOOD, memory=5_000_000_001), "export, peak memory"),
    ],
)
def test_what_is_missed_is_said(change: Callable[[], Report], missed: str) -> None:
    report = change()
    assert not report.ok
    told = {row[0]: row[4] for row in attention.table(report)[1]}
    assert {name for name, promise in told.items() if "MISSED" in promise} == {missed}
    assert {name for name, promise in told.items() if promise.endswith(" ok")} == {
        *report.promises()
    } - {missed}


def test_the_table_shows_both_ratios() -> None:
    titles, rows = attention.table(report_of(GOOD))
    shown = {row[0]: row[1:] for row in rows}
    assert titles == ("", "ours", "other", EAGER, "promised")
    assert shown["latency"] == ("2.00 s", "6.00 s", "5.00 s", "-")
    assert shown["times as fast"] == ("-", "3.00x", "2.00x", ">= 3x ok")
    assert shown["share of its memory"] == ("-", "0.40x", "0.80x", "<= 0.4x ok")
    assert shown["file"] == ("29.0 MB", "0.0 MB", "-", "<= 29.0 MB ok")
    assert shown["export of four graphs"] == ("20.00 s", "-", "-", "<= 60.00 s ok")
    assert all(len(row) == len(titles) for row in rows)


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    data, page = attention.write(report_of(GOOD, name="<other>"), tmp_path / "bench")
    told = json.loads(data.read_text())
    assert (told["frames"], told["pointers"], told["ok"]) == (7, 16, True)
    assert told["times_faster"] == {"<other>": 3.0, EAGER: 2.0}
    assert told["ours"]["run_seconds"] == [2.0, 2.0, 20.0]
    assert told["promises"][0] == {
        "name": "times as fast",
        "value": 3.0,
        "bound": 3.0,
        "unit": "x",
        "at_least": True,
        "ok": True,
    }
    text = page.read_text()
    assert "&lt;other&gt;" in text and "<other>" not in text
    assert "13 tables of 8.4 MB" in text
    assert "http" not in text
