"""Engines from small networks, for every GPU and in every precision."""

import hashlib
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from exporters.protocol import StageError
from exporters.tensorrt.build import Memory, Progress, Settings, apply_shapes, build_engine
from exporters.tensorrt.flavours import FLAVOURS
from exporters.tensorrt.header import read_header
from exporters.tensorrt.network import Network
from exporters.tensorrt.signature import Shapes
from tests.rtx.small_graphs import (
    FP8,
    INT8,
    WIDTH,
    weights,
    write,
    write_fp16,
    write_fp32,
    write_quantized,
)

FIXED: Shapes = {"x": [[2, WIDTH]] * 3}
RANGE: Shapes = {"x": [[1, WIDTH], [2, WIDTH], [8, WIDTH]]}
GPUS = ("portable", "sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
GRAPHS: dict[str, Callable[[Path], Path]] = {
    "fp32": write_fp32,
    "fp16": write_fp16,
    "int8": write_quantized,
    "fp8": lambda path: write_quantized(path, FP8),
    "int8 over fp32": lambda path: write_quantized(path, INT8, half=False),
}
# What TensorRT for RTX 1.7 refuses to compile, and its words.
NO_FP32 = "Cannot compile operation '{}' for Turing (SM75): FP32 GEMM is not supported."
NO_FP8 = (
    "Cannot compile for target(s) {}, because the model contains HW-specific datatypes: fp8_e4m3."
)
REFUSED = {
    ("fp32", "sm75"): NO_FP32.format("/first/MatMul"),
    ("int8 over fp32", "sm75"): NO_FP32.format("/MatMul"),
    **{("fp8", gpu): NO_FP8.format(gpu) for gpu in ("sm75", "sm80", "sm86")},
}


def build(
    trt: Any,
    graph: Path,
    out: Path,
    *gpus: str,
    shapes: Shapes = FIXED,
    tf32: bool = False,
    verbosity: str = "detailed",
    on_fraction: Callable[[float, str], None] = lambda *_: None,
) -> Memory:
    network = Network(trt, graph, graph.name)
    apply_shapes(network, shapes, graph.name)
    settings = Settings(
        flavour=FLAVOURS["rtx"], gpus=gpus or ("portable",), tf32=tf32, verbosity=verbosity
    )
    return build_engine(network, shapes, settings, out, out.name, on_fraction)


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("precision", GRAPHS)
def test_engines_for_every_gpu(precision: str, gpu: str, trt: Any, tmp_path: Path) -> None:
    graph, out = GRAPHS[precision](tmp_path / "small.onnx"), tmp_path / "small.engine"
    refused = REFUSED.get((precision, gpu))
    if refused is None:
        memory = build(trt, graph, out, gpu)
        header = read_header(out)
        assert header.version == trt.__version__
        assert header.portable is (gpu == "portable")
        assert gpu == "portable" or header.gpus == (gpu,)
        assert memory.weights > 0
        return
    with pytest.raises(StageError) as caught:
        build(trt, graph, out, gpu)
    assert caught.value.what == f"TensorRT's compiler does not take small.engine for {gpu}."
    assert refused in caught.value.why
    assert "--gpu" in caught.value.next or "rtx-" in caught.value.next
    assert not out.exists()


def test_one_engine_for_several_gpus(trt: Any, tmp_path: Path) -> None:
    graph = write_fp16(tmp_path / "small.onnx")
    build(trt, graph, tmp_path / "small.engine", "sm80", "sm86", "sm89", "sm120")
    assert read_header(tmp_path / "small.engine").gpus == ("sm80", "sm86", "sm89", "sm120")
    fp8 = write_quantized(tmp_path / "fp8.onnx", FP8)
    with pytest.raises(StageError, match="for sm86, sm89"):
        build(trt, fp8, tmp_path / "fp8.engine", "sm86", "sm89")


def test_gpus_are_named_where_the_flavour_names_them(trt: Any, tmp_path: Path) -> None:
    graph, out = write_fp16(tmp_path / "small.onnx"), tmp_path / "small.engine"
    network = Network(trt, graph, graph.name)
    apply_shapes(network, FIXED, graph.name)
    flavour = replace(FLAVOURS["rtx"], title="Another", names_gpus=False)
    settings = Settings(flavour=flavour, gpus=("sm86",), tf32=False, verbosity="none")
    with pytest.raises(StageError, match=r"small.engine cannot be built for sm86\.") as caught:
        build_engine(network, FIXED, settings, out, out.name, lambda *_: None)
    assert caught.value.why == "Another builds for the GPU of its machine alone."
    # Without any, it is asked for none: here that is what `portable` means.
    build_engine(network, FIXED, replace(settings, gpus=()), out, out.name, lambda *_: None)
    assert read_header(out).portable


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_flags_are_in_the_bytes_and_nothing_else_is(trt: Any, tmp_path: Path) -> None:
    graph = write_fp32(tmp_path / "small.onnx")
    other = write_fp32(tmp_path / "another name.onnx")
    built = {}
    for name, source, asked in (
        ("plain", graph, {}),
        ("again", graph, {}),
        ("elsewhere", other, {}),
        ("tf32", graph, {"tf32": True}),
        ("quiet", graph, {"verbosity": "none"}),
        ("shapes", graph, {"shapes": {"x": [[3, WIDTH]] * 3}}),
    ):
        build(trt, source, tmp_path / f"{name}.engine", **asked)
        built[name] = digest(tmp_path / f"{name}.engine")
    assert built["plain"] == built["again"] == built["elsewhere"]
    assert len(set(built.values())) == 4


def test_a_range_of_shapes_is_built(trt: Any, tmp_path: Path) -> None:
    graph, out = write_fp16(tmp_path / "small.onnx"), tmp_path / "small.engine"
    memory = build(trt, graph, out, shapes=RANGE)
    assert read_header(out).bytes == out.stat().st_size
    assert memory.activation >= 0


def test_an_axis_of_one_size_is_fixed_beside_one_with_a_range(trt: Any, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], name="/first/MatMul"),
        helper.make_node("Identity", ["a"], ["y"]),
    ]
    path = write(tmp_path / "small.onnx", nodes, [weights("first")], dims=["batch", "rows", WIDTH])
    network = Network(trt, path, path.name)
    shapes: Shapes = {"x": [[2, 1, WIDTH], [2, 4, WIDTH], [2, 8, WIDTH]]}
    apply_shapes(network, shapes, path.name)
    assert network.inputs[0].dims == network.outputs[0].dims == (2, -1, WIDTH)
    out = tmp_path / "small.engine"
    settings = Settings(
        flavour=FLAVOURS["rtx"], gpus=("portable",), tf32=False, verbosity="detailed"
    )
    build_engine(network, shapes, settings, out, out.name, lambda *_: None)
    assert read_header(out).portable


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({}, "The input x has open dims, and no shapes are given for it."),
        ({**FIXED, "z": FIXED["x"]}, "There is no input z."),
        ({"x": [[8, WIDTH], [2, WIDTH], [1, WIDTH]]}, "every dim needs 1 <= min <= opt <= max"),
        ({"x": [[2, WIDTH, 1]] * 3}, "the input has 2 dims"),
    ],
)
def test_shapes_are_checked_before_tensorrt_sees_them(
    shapes: Any, said: str, trt: Any, tmp_path: Path
) -> None:
    graph = write_fp32(tmp_path / "small.onnx")
    with pytest.raises(StageError) as caught:
        build(trt, graph, tmp_path / "small.engine", shapes=shapes)
    assert said in caught.value.why


def test_progress_rises_to_the_end(trt: Any, tmp_path: Path) -> None:
    told: list[float] = []
    build(
        trt,
        write_fp32(tmp_path / "small.onnx"),
        tmp_path / "small.engine",
        on_fraction=lambda fraction, _: told.append(fraction),
    )
    assert told == sorted(told)
    # TensorRT does not tell of the last step.
    assert 0.8 <= told[-1] <= 1
    assert len(told) > 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_build_at_its_next_step(number: int, trt: Any, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    told: list[float] = []

    def interrupt(fraction: float, _: str) -> None:
        told.append(fraction)
        if len(told) == 1:
            os.kill(os.getpid(), number)

    out = tmp_path / "small.engine"
    with pytest.raises(StageError) as caught:
        build(trt, write_fp32(tmp_path / "small.onnx"), out, on_fraction=interrupt)
    assert caught.value.exit_code == 130
    assert max(told) < 0.8
    assert not out.exists()
    assert signal.getsignal(number) is before


def test_phases_nest() -> None:
    told: list[tuple[float, str]] = []
    progress = Progress(lambda *one: told.append(one))
    progress.start("whole", None, 2)
    progress.start("part", "whole", 4)
    progress.step("part", 0)
    progress.step("part", 1)
    progress.finish("part")
    progress.step("whole", 0)
    progress.step("unknown", 0)
    assert told == [(0.0, "whole"), (0.125, "part"), (0.25, "part"), (0.5, "whole")]
