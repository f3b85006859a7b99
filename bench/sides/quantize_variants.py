"""Our encoder with one thing at a time as in the example's file: what bought its accuracy.

Runs inside the environment `quantize`, and prints one line of JSON:

    python -m bench.sides.quantize_variants BASE.onnx SEED.onnx CALIBRATION.json PICTURES OUT COUNT

    {"attention": 18, "constant": 1, "left_out": 0,
     "files": {"attention's products quantized": "OUT/0/encoder.onnx", ...}}

What the example's file quantizes is read from it: products that we do not, and
layers that it leaves out (Gemm, which its MatMul does not name). The ranges of layers are those of
our calibration; those of the products come from a pass over the same first COUNT pictures.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from bench.sides.quantize_graphs import Product, find_linears, find_products, find_quantized
from bench.sides.quantize_pictures import SIDE, read_pictures
from exporters.graphs.sessions import CPU
from exporters.graphs.structure import name_nodes
from exporters.precision.layers import Layer
from exporters.precision.qdq import Layout, QdqWriter
from exporters.precision.ranges import RangeObserver
from exporters.precision.weights import INT8_LARGEST, scale_of

ATTENTION = "attention's products quantized"
MEASURED = "these, with ranges as measured"
CONSTANT = "products of constants quantized"
FLOAT_BIASES = "biases in float32"
LEFT_OUT = "layers left out"
ALL = "all of these"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What is quantized, and how it is laid out."""

    layers: Sequence[Layer]
    products: Sequence[Product] = ()
    layout: Layout = Layout.ONNXRUNTIME
    measured: bool = False


def make_variants(
    layers: Sequence[Layer], kept: Sequence[Layer], products: Sequence[Product]
) -> dict[str, Variant]:
    """Make one variant for each thing that the example does otherwise, and one with all of them.

    Args:
        layers: Those that we quantize.
        kept: Those of them that the example quantizes.
        products: What the example quantizes beside them.
    """
    made = {}
    for name, constant in ((ATTENTION, False), (CONSTANT, True)):
        some = [one for one in products if one.constant is constant]
        if some:
            made[name] = Variant(layers=layers, products=some)
        if some and not constant:
            made[MEASURED] = Variant(layers=layers, products=some, measured=True)
    if len(kept) < len(layers):
        made[LEFT_OUT] = Variant(layers=kept)
    made[FLOAT_BIASES] = Variant(layers=layers, layout=Layout.EXPLICIT)
    if len(made) > 1:
        made[ALL] = Variant(layers=kept, products=products, layout=Layout.EXPLICIT)
    return made


def quantize_products(
    model: ModelProto, products: Sequence[Product], ranges: Mapping[str, float]
) -> None:
    """Put Q and DQ before both inputs of these products."""
    graph = model.graph
    wanted = {one.output for one in products}
    made: dict[str, str] = {}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.output[0] in wanted:
            for place in (0, 1):
                name = node.input[place]
                if name not in made:
                    base = f"{name}_product"
                    scale = np.array(scale_of(ranges[name], INT8_LARGEST))
                    graph.initializer.append(numpy_helper.from_array(scale, f"{base}_scale"))
                    zero = np.zeros((), dtype=np.int8)
                    graph.initializer.append(numpy_helper.from_array(zero, f"{base}_zero"))
                    ends = [f"{base}_scale", f"{base}_zero"]
                    for op, source, out in (
                        ("QuantizeLinear", name, f"{base}_q"),
                        ("DequantizeLinear", f"{base}_q", f"{base}_dq"),
                    ):
                        nodes.append(helper.make_node(op, [source, *ends], [out], name=out))
                    made[name] = f"{base}_dq"
                node.input[place] = made[name]
        nodes.append(node)
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def read_ranges(seed: ModelProto) -> dict[str, float]:
    """Return the ranges of activations as the example's file has them, by the activations' names.

    They are not what calibration saw: a softmax's is always 1.
    """
    values = {one.name: one for one in seed.graph.initializer}
    return {
        node.input[0]: float(numpy_helper.to_array(values[node.input[1]])) * INT8_LARGEST
        for node in seed.graph.node
        if node.op_type == "QuantizeLinear" and not values[node.input[1]].dims
    }


def write_variant(base: Path, variant: Variant, ranges: Mapping[str, float], out: Path) -> Path:
    """Return a quantized graph, as one file."""
    model = onnx.load_model(base)
    quantize_products(model, variant.products, ranges)
    QdqWriter(model=model, source=base.parent, ranges=ranges, layout=variant.layout).write(
        variant.layers
    )
    name_nodes(model)
    out.mkdir(parents=True)
    onnx.save_model(model, out / base.name)
    return out / base.name


def main() -> None:
    """Read the command line, write the variants, print where they are."""
    parser = argparse.ArgumentParser(description="Variants of bench.quantize.")
    parser.add_argument("base", type=Path)
    parser.add_argument("seed", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, default=SIDE)
    options = parser.parse_args()
    structure = onnx.load_model(options.base, load_external_data=False)
    seed = onnx.load_model(options.seed, load_external_data=False)
    layers = [layer for layer in find_linears(structure) if not layer.reason]
    chosen = find_quantized(structure, seed)
    kept = [layer for layer in layers if layer.output in chosen]
    products = find_products(structure, seed)
    (ranges,) = json.loads(options.calibration.read_text(encoding="utf-8"))["graphs"].values()
    options.out.mkdir()
    activations = {name for one in products for name in one.inputs}
    measured = ranges
    if activations:
        folder = options.out / "observed"
        observer = RangeObserver(options.base, activations, folder, options.threads, CPU)
        for _, picture in read_pictures(
            sorted(options.pictures.iterdir())[: options.count], options.side
        ):
            observer.run({"image": picture})
        measured = {**observer.largest, **ranges}
    theirs = {**measured, **read_ranges(onnx.load(options.seed)), **ranges}
    variants = make_variants(layers, kept, products)
    files = {
        name: str(
            write_variant(
                options.base, one, measured if one.measured else theirs, options.out / str(index)
            )
        )
        for index, (name, one) in enumerate(variants.items())
    }
    told = {
        "attention": sum(not one.constant for one in products),
        "constant": sum(one.constant for one in products),
        "left_out": len(layers) - len(kept),
        "files": files,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
