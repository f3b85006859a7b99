"""Bars on one small page."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.chart import Bar, Chart, draw_chart, write_page


def test_bars_are_drawn_to_scale() -> None:
    bars = [Bar(label="a", value=2, text="2 s", ours=True), Bar(label="b", value=4, text="4 s")]
    picture = ElementTree.fromstring(draw_chart(Chart(title="t", bars=bars, mark=1.0)))
    short, long = (float(one.attrib["width"]) for one in picture.findall("rect"))
    assert long == pytest.approx(2 * short)
    start = float(picture.findall("rect")[0].attrib["x"])
    mark = picture.find("line")
    assert mark is not None
    assert float(mark.attrib["x1"]) == pytest.approx(start + short / 2)


def test_bars_of_nothing_are_still_a_picture() -> None:
    ElementTree.fromstring(draw_chart(Chart(title="t", bars=[Bar(label="a", value=0, text="0")])))


def test_a_page_escapes_what_it_is_told_and_loads_nothing(tmp_path: Path) -> None:
    page = write_page(
        tmp_path / "deep" / "page.html",
        title="<title>",
        lead="a & b",
        charts=[Chart(title="<chart>", bars=[Bar(label="<a>", value=1, text="1 < 2")])],
        facts=[("<fact>", "x & y")],
    )
    text = page.read_text()
    for shown in ("title", "chart", "a", "fact"):
        assert f"&lt;{shown}&gt;" in text
    assert "a &amp; b" in text and "1 &lt; 2" in text and "x &amp; y" in text
    assert "<chart>" not in text and "http" not in text and "<script" not in text
