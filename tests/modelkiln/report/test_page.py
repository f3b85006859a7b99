"""The report is one file that needs nothing else, and it hides no failure."""

import base64
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from modelkiln.report.page import (
    ParityRow,
    Report,
    format_magnitude,
    format_scientific,
    format_seconds,
    format_share,
    plot_parity,
    render_report,
    render_reports,
)
from modelkiln.report.quality import read_quality
from tests.modelkiln.quality_case import BENEFIT, CHECKS, PLAN
from tests.modelkiln.report.loop_case import LOOP, step

PNG = b"\x89PNG\r\n\x1a\n and some bytes"
WARNING = "random weights: this mask means nothing"
VOID = {"meta", "img", "line", "br", "hr", "link", "input"}


def _row(case: str = "coffee.jpg", relative: float | None = 2e-6, **changed: Any) -> ParityRow:
    row: Any = {
        "graph": "encoder",
        "case": case,
        "tensor": "image_embed",
        "max_abs_diff": None if relative is None else relative * 3,
        "max_abs_reference": 3.0,
        "relative": relative,
        "bound": 1e-5,
        "ok": relative is not None and relative <= 1e-5,
    }
    typed: ParityRow = row | changed
    return typed


def _report(**changed: Any) -> Report:
    report: Any = {
        "title": "tiny, contract image",
        "target": "tiny/image/onnx-fp32",
        "weights": "official weights",
        "warning": "",
        "pictures": [{"title": "a cup", "png": PNG}],
        "parity": [_row(), _row(case="rocket.jpg", relative=4e-6)],
        "masks": [
            {"picture": "a", "prompt": "box", "iou": 0.99951, "coverage": 0.4, "counted": True},
            {"picture": "b", "prompt": "box", "iou": 0.12345, "coverage": 1.0, "counted": False},
        ],
        "files": [{"name": "encoder.onnx", "bytes": 108_912_345, "sha256": "ab" * 32}],
        "timings": [{"name": "encoder", "seconds": 2.0}, {"name": "decoder", "seconds": 0.5}],
        "provenance": [("torch", "2.5.1")],
        "steps": [{"id": "export tiny", "key": "cd" * 32, "status": "ran", "seconds": 24.0}],
    }
    typed: Report = report | changed
    return typed


class _Page(HTMLParser):
    """Collects what would be loaded, and checks that elements close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag, attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "page",
    [
        render_report(_report()),
        render_report(_report(warning=WARNING)),
        render_reports("check", "a note", [_report(), _report(parity=[_row(relative=None)])]),
        render_reports("check", "", []),
        render_report(_report(loop=LOOP)),
        render_report(_report(parity=[], quality=read_quality(CHECKS, PLAN, BENEFIT))),
    ],
    ids=["one", "random", "several", "none", "loop", "quality"],
)
def test_the_page_is_well_formed_and_loads_nothing(page: str) -> None:
    parsed = _Page(page)
    assert not parsed.open
    assert all(one.startswith(("data:image/png;base64,", "#target-")) for one in parsed.loaded)
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|@import|url\(|<script", page)


def test_pictures_are_inside_the_page() -> None:
    assert base64.b64encode(PNG).decode() in render_report(_report())


@pytest.mark.parametrize("warning", ["", WARNING])
def test_random_weights_are_announced(warning: str) -> None:
    page = render_report(_report(warning=warning))
    assert page.count('<div class="alarm"') == bool(warning)
    assert (f'<div class="alarm" role="alert">{warning}</div>' in page) is bool(warning)


def test_one_random_target_among_several_marks_the_page_and_itself() -> None:
    page = render_reports("check", "", [_report(), _report(warning=WARNING)])
    assert page.count(WARNING) == 2


def test_a_verified_target_shows_its_worst_case() -> None:
    page = render_report(_report())
    assert "verified</span>" in page
    assert "not verified" not in page
    assert "2 comparisons; the worst uses up 40 % of its bound" in page
    assert "rocket.jpg" in page


@pytest.mark.parametrize("relative", [3e-2, None, float("nan"), float("inf")])
def test_a_failed_comparison_cannot_be_missed(relative: float | None) -> None:
    page = render_report(_report(parity=[_row(), _row(relative=relative, ok=False)]))
    assert "not verified</span>" in page
    assert "2 comparisons; 1 failed" in page
    assert '<circle cx="' in page
    assert 'class="bad"><title>' in page


def test_a_failure_is_told_in_its_three_parts() -> None:
    failure = {"what": "no download", "why": "no answer", "next": "invoke doctor"}
    page = render_report(_report(failure=failure, parity=[]))
    assert "failed</span>" in page
    assert all(part in page for part in failure.values())


def test_only_masks_that_count_make_the_lowest_overlap() -> None:
    page = render_report(_report())
    assert "1 of 2 do; the lowest IoU among them is 0.999510" in page
    assert '<tr class="faint"><td>b</td>' in page


def test_empty_sections_are_left_out() -> None:
    names = ("pictures", "parity", "masks", "files", "timings", "provenance", "steps")
    page = render_report(_report(**{name: [] for name in names}))
    assert "<h2>" not in page
    assert "not compared" in page


def test_several_targets_have_a_table_with_links() -> None:
    page = render_reports("check", "a note", [_report(target="a/b/c"), _report(target="d/e/f")])
    assert 'href="#target-2">d/e/f</a>' in page
    assert '<section class="target one-of" id="target-2">' in page
    assert "a note" in page
    assert "Targets" not in render_report(_report())


def test_the_table_tells_the_lowest_overlap_of_a_loop() -> None:
    page = render_reports("check", "", [_report(masks=[], loop=LOOP), _report(masks=[])])
    assert page.count('<td class="n">0.999500</td>\n<td class="n">108.9 MB') == 1


def test_text_is_escaped() -> None:
    page = render_report(_report(title="<b>&", provenance=[("x", '"><script>alert(1)</script>')]))
    assert "<title>&lt;b&gt;&amp;</title>" in page
    assert "<script>" not in page


def test_the_page_depends_on_nothing_but_its_data() -> None:
    assert render_report(_report()) == render_report(_report())


def test_the_plot_places_differences_by_their_logarithm() -> None:
    rows = [_row(relative=value) for value in (1e-7, 1e-6, 1e-5, 0.0)] + [_row(relative=None)]
    plot = plot_parity(rows)
    (line,) = plot["lines"]
    x = [dot["x"] for dot in line["dots"]]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)
    assert x[3] < x[0] < x[2] < x[4] <= plot["width"]
    assert plot["bounds"] == [(x[2], "bound 1.0e-5")]
    assert [label for _, label in plot["ends"]] == ["0", "none"]


def test_the_plot_has_a_line_for_each_tensor_in_the_order_given() -> None:
    rows = [_row(tensor="z"), _row(tensor="a"), _row(tensor="z", graph="decoder")]
    assert [line["name"] for line in plot_parity(rows)["lines"]] == [
        "encoder z",
        "encoder a",
        "decoder z",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0123, "12 ms"),
        (0.9996, "1.0 s"),
        (3.44, "3.4 s"),
        (59.97, "1 min 00 s"),
        (125.2, "2 min 05 s"),
    ],
)
def test_seconds_are_told_in_words(seconds: float | None, text: str) -> None:
    assert format_seconds(seconds) == text


def test_numbers_are_short() -> None:
    assert format_scientific(3.14e-6) == "3.1e-6"
    assert format_scientific(0.0) == "0"
    assert format_scientific(float("nan")) == "not a number"
    assert format_magnitude(31.97123) == "31.97"
    assert format_magnitude(2.1e-5) == "2.1e-5"
    assert format_share(0.314) == "31 %"
    assert format_share(0.001) == "below 1 %"
    assert format_share(250) == "250 times"


def test_a_closed_loop_tells_its_worst() -> None:
    page = render_report(_report(loop=LOOP))
    assert "follow 2 objects through the same 3 frames" in page
    assert "4 of 5 masks count; the lowest IoU among them is 0.999500" in page
    assert "lowest cosine of an object pointer is 0.999990" in page
    assert "the same sign on all of them (4 seen, 1 hidden)" in page
    assert page.count("object 2, frame 2:") == 3
    assert "verified</span>" in page and "failed</span>" not in page


@pytest.mark.parametrize(
    "changed",
    [
        {"occlusion": -1.0},
        {"occlusion": None},
        {"ok": False},
        {"iou": None},
        {"pointer_cosine": None},
    ],
)
def test_what_failed_in_a_loop_cannot_be_missed(changed: dict[str, Any]) -> None:
    page = render_report(_report(loop=[*LOOP, step(1, 3, **changed)]))
    assert "not verified</span>" in page
    assert '<span class="pill bad">1 ' in page
    assert '<td><span class="pill bad">failed</span></td><td class="n">1</td>' in page
    assert 'class="bad"><title>object 1, frame 3' in page
