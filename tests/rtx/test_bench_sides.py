"""Both sides of bench.engine, on a small network."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from onnx import helper

from bench.sides import engine as ours
from bench.sides import engine_plain as theirs
from exporters.protocol import StageError
from exporters.stages import engine
from exporters.tensorrt.build import apply_shapes
from exporters.tensorrt.header import read_header
from exporters.tensorrt.network import Network
from tests.rtx.small_graphs import WIDTH, weights, write, write_fp16, write_fp32
from tests.rtx.small_steps import SHAPES, make_step

ROOT: Final = Path(__file__).resolve().parents[2]
RANGE: Final[Any] = {"small": {"x": [[1, WIDTH], [2, WIDTH], [8, WIDTH]]}}
SETTINGS: Final = ("gpus", "tf32", "verbosity")
FIGURES: Final = {"activation_memory", "weights_memory", "layers", "tensorrt"}


def build_both(folder: Path, **params: Any) -> tuple[Any, Any, Path, Path]:
    """Build with both sides; returns what each says, and its engine."""
    folder.mkdir(parents=True, exist_ok=True)
    make = write_fp32 if params.get("precision") == "fp32" else write_fp16
    graph = make(folder / "small.onnx")
    step = make_step(folder, "engine", {"small.onnx": graph}, **params)
    mine = ours.build(step)
    settings = {name: step.params[name] for name in SETTINGS}
    plain = folder / "plain.engine"
    other = theirs.build({"shapes": step.params["shapes"]["small"], **settings}, graph, plain)
    return mine, other, step.out / "small.engine", plain


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"gpus": ["sm86", "sm120"]},
        {"verbosity": "none"},
        {"precision": "fp32"},
        {"precision": "fp32", "tf32": True},
    ],
    ids=["portable", "named", "silent", "fp32", "tf32"],
)
def test_fixed_shapes_give_both_sides_the_same_bytes(tmp_path: Path, params: Any) -> None:
    mine, other, engine_file, plain = build_both(tmp_path, shapes=SHAPES, **params)
    assert engine_file.read_bytes() == plain.read_bytes()
    assert {name: mine[name] for name in FIGURES} == {name: other[name] for name in FIGURES}
    header = read_header(plain)
    assert header.portable is ("gpus" not in params)
    assert header.portable or list(header.gpus) == params["gpus"]
    for told in (mine, other):
        assert set(told) == FIGURES | {"parse_seconds", "build_seconds"}
        assert told["parse_seconds"] > 0 and told["build_seconds"] > 0


def test_settings_are_in_the_script_s_bytes(tmp_path: Path) -> None:
    """So equal bytes mean equal settings."""
    changes: list[dict[str, Any]] = [
        {},
        {"gpus": ["sm86"]},
        {"verbosity": "none"},
        {"shapes": RANGE},
    ]
    digests = {
        hashlib.sha256(build_both(tmp_path / str(number), **params)[3].read_bytes()).hexdigest()
        for number, params in enumerate(changes)
    }
    assert len(digests) == 4


def test_a_range_takes_as_much_memory_on_both_sides(tmp_path: Path) -> None:
    mine, other, _, _ = build_both(tmp_path / "range", shapes=RANGE)
    assert {name: mine[name] for name in FIGURES} == {name: other[name] for name in FIGURES}
    fixed, _, _, _ = build_both(tmp_path / "fixed", shapes=SHAPES)
    assert fixed["activation_memory"] != mine["activation_memory"]


def test_an_axis_of_one_size_is_fixed_beside_one_with_a_range(trt: Any, tmp_path: Path) -> None:
    """As the stage does it: the compiler makes another engine of an axis that is open."""
    nodes = [helper.make_node("MatMul", ["x", "first"], ["y"])]
    path = write(tmp_path / "a.onnx", nodes, [weights("first")], dims=["batch", "rows", WIDTH])
    shapes = {"x": [[2, 1, WIDTH], [2, 4, WIDTH], [2, 8, WIDTH]]}
    mine, other = Network(trt, path, path.name), Network(trt, path, path.name)
    apply_shapes(mine, shapes, path.name)
    profile = theirs.apply_shapes(other.builder, other.definition, shapes)
    assert other.inputs == mine.inputs and other.inputs[0].dims == (2, -1, WIDTH)
    assert [list(one) for one in profile.get_shape("x")] == shapes["x"]
    fixed = {"x": [[2, 8, WIDTH]] * 3}
    assert theirs.apply_shapes(other.builder, other.definition, fixed) is None


def test_our_side_checks_what_the_script_takes(tmp_path: Path) -> None:
    """The stage itself runs, and is as it was afterwards."""
    parts = [getattr(engine, name) for name in ours.PARTS]
    graph = write_fp32(tmp_path / "small.onnx")
    with pytest.raises(StageError, match="is not fp16"):
        ours.build(make_step(tmp_path, "engine", {"small.onnx": graph}))
    assert [getattr(engine, name) for name in ours.PARTS] == parts
    settings = {"shapes": SHAPES["small"], "gpus": ["portable"], "tf32": False}
    plain = tmp_path / "plain.engine"
    assert theirs.build({**settings, "verbosity": "detailed"}, graph, plain)["layers"] > 0


def test_a_graph_that_is_none_ends_the_script(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\xff" * 100)
    settings = {"shapes": {}, "gpus": ["portable"], "tf32": False, "verbosity": "none"}
    with pytest.raises(SystemExit, match=r"a\.onnx"):
        theirs.build(settings, tmp_path / "a.onnx", tmp_path / "a.engine")
    assert not (tmp_path / "a.engine").exists()


def test_each_side_is_a_program_whose_last_line_is_its_figures(tmp_path: Path) -> None:
    graph = write_fp16(tmp_path / "small.onnx")
    step = make_step(tmp_path / "unused", "engine", {"small.onnx": graph})
    told, settings = tmp_path / "told.json", tmp_path / "settings.json"
    document = {"params": step.params, "inputs": {"small.onnx": str(graph)}}
    told.write_text(json.dumps({**document, "threads": 1, "seed": 0}))
    plain = {name: step.params[name] for name in SETTINGS}
    settings.write_text(json.dumps({"shapes": SHAPES["small"], **plain}))
    files = [tmp_path / "out" / "small.engine", tmp_path / "plain.engine"]
    for words in (
        ("-m", "bench.sides.engine", told, tmp_path / "out"),
        ("bench/sides/engine_plain.py", settings, graph, files[1]),
    ):
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout.splitlines()[-1])["tensorrt"] == "1.7.1.116"
    assert files[0].read_bytes() == files[1].read_bytes()
