"""What a user is told of a reduced precision: all that was lost, and whether it pays."""

import re
from typing import Any

import pytest

from modelkiln.report.page import Report, render_report, render_reports
from modelkiln.report.quality import Quality, plot_quality, read_quality
from tests.modelkiln.quality_case import BENEFIT, CHECKS, PLAN, miss


def _read(checks: dict[str, Any] = CHECKS, benefit: dict[str, Any] = BENEFIT) -> Quality:
    quality = read_quality(checks, PLAN, benefit)
    assert quality is not None
    return quality


def _report(quality: Quality | None) -> Report:
    return {
        "title": "tiny",
        "target": "tiny/image/onnx-int8",
        "weights": "official weights",
        "warning": "",
        "pictures": [],
        "parity": [],
        "masks": [],
        "files": [],
        "timings": [],
        "provenance": [],
        "steps": [],
        "quality": quality,
    }


def _page(quality: Quality | None) -> str:
    return render_report(_report(quality))


def test_a_verification_without_gates_has_no_quality() -> None:
    assert read_quality({"tensors": [], "masks": []}, {}, {}) is None
    assert "<h2>Quality</h2>" not in _page(None)


def test_the_page_shows_gates_outputs_kernels_benefit_and_layers() -> None:
    page = _page(_read())
    assert ">verified<" in page
    assert "51 of 51 linears INT8" in page
    assert "coffee.jpg/a box, set 1, mask 2" in page and "0.991230" in page
    assert page.count(">no noise<") >= 3
    assert "0.999671" in page
    assert "51 of 51 planned (51 QGemm)" in page
    assert "off by 0.0017 on average and 0.0059 at most" in page
    assert ">pays here<" in page and "0.36 x the size" in page and "1.52 x" in page
    assert "the same file" in page
    assert "1 quantized, 1 left out" in page and "Conv was not asked for" in page
    assert "1.3e-06 of its scale at most (encoder high_res_feats_1)" in page


def test_the_page_names_what_float16_hardly_holds() -> None:
    page = _page(_read())
    assert "Range of encoder: blocks.2.add reaches infinity, most of 258 values" in page
    assert "3 operators stay in float32, where float16 would overflow: Add 2, MatMul 1." in page
    rows = re.findall(r'<td class="mono">(\S+)</td><td class="n">(\w+)</td><td>(.+?)</td>', page)
    assert rows == [
        ("blocks.2.add", "infinity", "stays in float32"),
        ("blocks.1.mlp", "70123", "stays in float32"),
        ("blocks.1.qkv", "40000", "float16"),
    ]
    plan = {"graphs": {"encoder": {key: PLAN["graphs"]["encoder"][key] for key in ("layers",)}}}
    quality = read_quality(CHECKS, plan, BENEFIT)
    assert quality is not None and not quality["ranges"]
    assert "Range of" not in _page(quality)


def test_a_missed_gate_is_seen() -> None:
    page = _page(_read(miss(CHECKS, binding=True)))
    assert ">not verified<" in page and ">missed<" in page
    assert ">verified<" not in page


def test_gates_that_do_not_bind_are_no_verification() -> None:
    page = _page(_read(miss(CHECKS, binding=False)))
    assert ">gates not binding<" in page and ">missed<" in page
    assert ">verified<" not in page and ">not verified<" not in page
    assert "The weights are random" in page


def test_what_does_not_pay_is_seen() -> None:
    page = _page(_read(benefit={**BENEFIT, "pays": False}))
    assert ">does not pay here<" in page
    assert "<h2>Benefit</h2>" not in _page(_read(benefit={}))


def test_the_table_of_targets_has_the_lowest_snr() -> None:
    assert "SNR 31.2 dB" not in render_reports("all", "", [_report(_read())])
    page = render_reports("all", "", [_report(_read())] * 2)
    assert page.count("SNR 31.2 dB") == 2


def test_the_plot_places_ratios_on_an_axis_with_the_gate() -> None:
    plot = plot_quality(_read())
    embedded, fine = plot["lines"]
    assert [dot["ring"] for dot in embedded["dots"]] == [False, False, True]
    coffee, rocket, together = (dot["x"] for dot in embedded["dots"])
    ((bound, label),) = plot["bounds"]
    assert label == "gate 20 dB"
    assert bound < coffee < together < rocket <= 700
    assert "noise" not in [dot["title"].partition(":")[0] for dot in embedded["dots"]]
    assert all(dot["x"] == 745 for dot in fine["dots"])
    assert plot["ends"] == [(745, "no noise")]
    ticks = {one["label"]: one["x"] for one in plot["ticks"]}
    assert ticks["20 dB"] == bound and ticks["30 dB"] < coffee < ticks["40 dB"]


@pytest.mark.parametrize("value", [5.0, -1e308])
def test_the_plot_marks_what_misses_the_gate(value: float) -> None:
    checks = miss(CHECKS, binding=True)
    checks["gates"][0] |= {"value": value, "ok": False}
    checks["quality"]["cpu"][0]["snr_db"] = value
    plot = plot_quality(_read(checks))
    assert "1e+308" not in _page(_read(checks))
    (ring,) = [dot for dot in plot["lines"][0]["dots"] if dot["ring"]]
    assert not ring["ok"]
    assert ring["x"] < plot["bounds"][0][0]
    assert ((200, "no signal") in plot["ends"]) == (value < -1e300)
