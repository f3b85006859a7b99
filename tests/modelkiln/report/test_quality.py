"""What a user is told of a reduced precision: all that was lost, and whether it pays."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelkiln.building import report
from modelkiln.commands import inspect
from modelkiln.report.page import Report, render_report, render_reports
from modelkiln.report.quality import Quality, plot_quality, read_quality
from modelkiln.report.summary import say_summary
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


def test_the_summary_says_what_was_lost_and_gained() -> None:
    assert say_summary(CHECKS["summary"], BENEFIT) == (
        "51 of 51 linears INT8; SNR >= 31.2 dB (encoder image_embed), lowest mask IoU 0.9912, "
        "0.36x the size, 1.52x as fast as float32 here"
    )
    assert say_summary(CHECKS["summary"]).endswith("0.36x the size")


def test_the_summary_marks_random_weights_and_what_does_not_pay() -> None:
    summary = miss(CHECKS, binding=False)["summary"]
    speed = {"cpu": 0.9, "cuda": 1.01}
    said = say_summary(summary, {**BENEFIT, "speed": speed, "pays": False})
    assert "0.90x as fast as float32 here, 1.01x as fast as float32 on cuda" in said
    assert said.endswith(
        "does not pay here: neither smaller nor faster than float32; "
        "gates not binding: random weights, 1 missed"
    )


def test_the_summary_of_features_and_of_fp16_names_what_there_is() -> None:
    summary = CHECKS["summary"] | {"lowest_iou": None, "mode": "fp16"}
    summary["linears"] = {"linears": 51, "quantized": 0}
    assert say_summary(summary).startswith(
        "FP16; SNR >= 31.2 dB (encoder image_embed), lowest cosine 0.999671, "
    )


def test_the_closed_loop_may_be_what_fares_worst() -> None:
    summary = CHECKS["summary"] | {"loop": {"lowest_iou": 0.985}}
    assert "lowest mask IoU 0.9850" in say_summary(summary)


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


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A target's folder and its manifest, with a store that has the record of its verification."""
    (tmp_path / "verification.json").write_text(json.dumps(CHECKS))
    (tmp_path / "quantization.json").write_text(json.dumps(PLAN))
    steps = {
        "tiny/image/onnx-fp32/verify": "of another",
        "tiny/image/onnx-int8/verify": "own",
    }
    manifest = {
        "target": "tiny/image/onnx-int8",
        "model": "tiny",
        "contract": {"name": "image", "version": 1},
        "parameters": {},
        "license": "Apache-2.0",
        "modelkiln": "0",
        "environment": {},
        "weights": {"kind": "random", "seed": 0},
        "files": {"quantization.json": {"bytes": 1, "sha256": "ab"}},
        "graphs": {},
        "verification": CHECKS["summary"],
        "steps": {
            name: {"key": key, "runner": "local", "sealed": "full"} for name, key in steps.items()
        },
    }
    records = {
        "own": {"benefit": BENEFIT, "timings": {}},
        "of another": {"timings": {"encoder": {"load_seconds": 1, "run_seconds": 1, "runs": 1}}},
    }
    for module in (inspect, report):
        monkeypatch.setattr(module, "find_manifest", lambda *_: manifest)
        monkeypatch.setattr(module, "target_folder", lambda *_: tmp_path)
    contract = SimpleNamespace(summary="an image")
    target = SimpleNamespace(
        name=manifest["target"], warning="", contract=contract, graphs=[], format="onnx-int8"
    )
    monkeypatch.setattr(inspect, "prepare", lambda *_: SimpleNamespace(target=target))
    store = SimpleNamespace(record=lambda key: SimpleNamespace(metrics=records[key]))
    return SimpleNamespace(kiln=SimpleNamespace(store=store), target=target, folder=tmp_path)


def test_a_report_of_what_was_built_has_it_all(built: Any) -> None:
    made = report.make_report(built.kiln, built.target)
    quality = made.get("quality")
    assert quality is not None and quality["benefit"] is not None
    assert [one["node"] for one in quality["layers"]] == ["blocks.0.qkv", "patch_embed"]
    assert made["parity"] == []
    assert made["timings"] == []  # those of float32 are float32's
    assert ">pays here<" in render_report(made)


def test_inspect_shows_gates_and_what_was_left_out(
    built: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect.inspect_target(built.kiln, "tiny")
    told = capsys.readouterr().out
    assert re.search(r"snr_db +cpu +encoder image_embed +31.25 +20 +ok", told)
    assert re.search(r"encoder high_res_feats_0 +no noise +20 +ok", told)
    assert "1 layer left out: Conv was not asked for" in told
    assert "verified: 51 of 51 linears INT8" in told and "1.52x as fast" in told
    changed = miss(CHECKS, binding=False)
    (built.folder / "verification.json").write_text(json.dumps(changed))
    inspect.inspect_target(built.kiln, "tiny")
    told = capsys.readouterr().out
    assert "gates (not binding: random weights)" in told
    assert re.search(r"mask_iou .* missed", told)
