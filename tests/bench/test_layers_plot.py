"""Errors by layer as one picture."""

from xml.etree import ElementTree

from bench.layers_plot import draw_layers
from bench.quantized import (
    EQUAL,
    SEED,
    LayerError,
)
from tests.bench.quantized_case import LAYERS


def test_the_plot_has_a_dot_for_each_layer_and_side() -> None:
    root = ElementTree.fromstring(draw_layers(LAYERS, SEED, EQUAL))
    space = {"svg": "http://www.w3.org/2000/svg"}
    dots = root.findall("svg:circle", space)
    kinds = [one.get("class") for one in dots]
    assert kinds == ["other bare", "other", "ours", "ours"]
    titles = [dot.findtext("svg:title", namespaces=space) for dot in dots]
    assert titles[0] == "/<qkv>: 0.1000"
    # Lower errors stand lower; none at all stands on the floor.
    heights = [float(dot.get("cy", "")) for dot in dots]
    assert heights[0] < heights[1] < heights[2] <= heights[3]
    assert all(34 <= one <= 340 - 46 for one in heights)


def test_a_plot_of_no_errors_is_drawn() -> None:
    none = [LayerError(name="a", op="MatMul", errors={SEED: 0.0, EQUAL: 0.0})]
    ElementTree.fromstring(draw_layers(none, SEED, EQUAL))
