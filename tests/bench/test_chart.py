"""Bars on one small page."""

from xml.etree import ElementTree

import pytest

from bench.chart import Bar, Chart, draw_chart


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
