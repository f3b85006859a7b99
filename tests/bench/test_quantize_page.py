"""The report of bench.quantize as a table, JSON and pages."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import quantize_page
from bench.quantized import (
    BASE,
    DYNAMIC,
    EQUAL,
    PRESET,
    SEED,
)
from tests.bench.quantized_case import GOOD, latency, report_of


def test_the_table_says_what_is_promised_of_whom() -> None:
    report = report_of(
        int8=replace(GOOD[PRESET], latency=latency(PRESET, 0.8)),
        dynamic=replace(GOOD[DYNAMIC], kernels={"DynamicQuantizeMatMul": 50}),
    )
    titles, rows = quantize_page.table(report)
    assert titles[:-1] == ("", BASE, SEED, EQUAL, PRESET, DYNAMIC)
    assert all(len(row) == len(titles) for row in rows)
    shown = {row[0]: row[1:] for row in rows}
    assert shown["speed over onnx-fp32"] == (
        "-",
        "1.00x",
        "1.11x",
        "1.25x",
        "1.60x",
        "onnx-int8 >= 1.4x MISSED; onnx-int8-dynamic >= 1.6x ok",
    )
    assert shown["integer kernels"][:-1] == ("-", "0", "51 of 51", "51 of 51", "50 of 51")
    assert shown["error, image_embed"][1] == "0.1000, 10.0 dB"
    assert shown["share of its error, image_embed"][1:5] == ("-", "1.00x", "0.30x", "0.50x")
    assert shown["share of its time"][1:3] == ("-", "0.67x")
    assert shown["image_embed with attention's"][2] == "0.0900, 51 integer kernels"
    told = " ".join(row[-1] for row in rows)
    assert told.count(" ok") + told.count("MISSED") == len(report.held())


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    data, page = quantize_page.write(report_of(), tmp_path / "bench")
    told = json.loads(data.read_text())
    assert told["ok"] and all(one["ok"] for one in told["promises"])
    assert told["speed"][PRESET] == pytest.approx(1.4)
    assert told["share_of_error"][PRESET]["image_embed"] == pytest.approx(0.3)
    assert told["layers"][0]["errors"] == {SEED: 0.1, EQUAL: 0.01}
    text = page.read_text()
    assert "a/&lt;target&gt;" in text and "<target>" not in text
    assert "x86-64-v4 avx512_vnni" in text and "attention&#x27;s" in text
    assert "http" not in text
    ElementTree.parse(page.with_name(quantize_page.PLOT))
