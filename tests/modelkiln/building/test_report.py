"""What the report of a target holds, gathered from its manifest, records and files."""

from typing import Any

from modelkiln.building import report
from modelkiln.report.page import render_report


def test_a_report_of_what_was_built_has_it_all(built_int8: Any) -> None:
    made = report.make_report(built_int8.kiln, built_int8.target)
    quality = made.get("quality")
    assert quality is not None and quality["benefit"] is not None
    assert [one["node"] for one in quality["layers"]] == ["blocks.0.qkv", "patch_embed"]
    assert made["parity"] == []
    assert made["timings"] == []  # those of float32 are float32's
    assert ">pays here<" in render_report(made)
