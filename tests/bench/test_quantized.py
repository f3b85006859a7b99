"""What is promised of quantized files: just kept, and missed by as little."""

from dataclasses import replace
from typing import Any

import pytest

from bench.quantized import (
    DYNAMIC,
    EQUAL,
    PRESET,
    SEED,
    Error,
    Making,
    Report,
)
from tests.bench.quantized_case import GOOD, latency, report_of


def missed(report: Report) -> list[str]:
    return [one.promise.name for one in report.held() if not one.promise.ok]


def test_what_is_just_kept_is_kept() -> None:
    report = report_of()
    assert missed(report) == []
    assert report.ok
    assert report.stretch == "quantizes 1.50x as fast; hoped for 1.5x: reached"


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("equal", {"errors": {"high_res_feats_0": Error(relative=0.101, snr_db=9.9),
                              "image_embed": Error(relative=0.1, snr_db=10.0)}},
         ["share of its error, high_res_feats_0, equal settings"]),
        ("int8", {"errors": {"high_res_feats_0": Error(relative=0.2, snr_db=9.9),
                             "image_embed": Error(relative=0.031, snr_db=10.0)}},
         ["share of its error, image_embed, onnx-int8"]),
        ("equal", {"making": Making(seconds=30.1, peak_bytes=10, pictures=8)},
         ["share of its time, equal settings"]),
        ("int8", {"making": Making(seconds=31.0, peak_bytes=5_100_000_000, pictures=8)},
         ["peak memory, onnx-int8"]),
        ("int8", {"latency": latency(PRESET, 0.72)}, ["speed over onnx-fp32, onnx-int8"]),
        ("dynamic", {"latency": latency(DYNAMIC, 0.63)},
         ["speed over onnx-fp32, onnx-int8-dynamic"]),
        ("int8", {"latency": latency(PRESET, 0.5, 34_000_001)}, ["files, onnx-int8"]),
        ("dynamic", {"kernels": {"DynamicQuantizeMatMul": 50}},
         ["integer kernels, onnx-int8-dynamic"]),
    ],
)  # fmt: skip
def test_what_is_missed_is_named(name: str, change: dict[str, Any], expected: list[str]) -> None:
    full = {"equal": EQUAL, "int8": PRESET, "dynamic": DYNAMIC}[name]
    report = report_of(**{name: replace(GOOD[full], **change)})
    assert missed(report) == expected
    assert not report.ok
    assert report.document()["ok"] is False


def test_memory_that_grows_is_missed() -> None:
    report = replace(report_of(), memory={2: 1000, 64: 1051})
    assert missed(report) == ["peak, most by least, equal settings"]


def test_no_error_beside_no_error_is_no_loss() -> None:
    nothing = Error(relative=0.0, snr_db=None)
    both = {"image_embed": nothing, "high_res_feats_0": nothing}
    report = report_of(ModelOpt=replace(GOOD[SEED], errors=both))
    assert report.share_of_error(EQUAL, "image_embed") == float("inf")
    report = replace(report, sides=[replace(one, errors=both) for one in report.sides])
    assert report.share_of_error(EQUAL, "image_embed") == 1.0
