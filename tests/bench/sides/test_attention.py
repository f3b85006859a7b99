"""The sides of bench.tracker, on a SAM 2.1 shrunken to frames of 128 pixels; all four layers."""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.numpy import save_file

from bench.sides.attention import attend
from bench.sides.attention_inputs import NAMES, OUTPUT, make_inputs
from bench.sides.public_attention import (
    check_facts,
    count_facts,
    rotate,
    rotation_matrices,
)
from bench.sides.side import Floats, Inputs, peak_bytes
from exporters.sam2.model import build_model, load_model
from exporters.sam2.tracker.attention import PARTS
from exporters.sam2.tracker.memory_attention import TrackerMemoryAttention
from exporters.weights.random import draw_weights

ROOT: Final = Path(__file__).resolve().parents[3]
CONFIG: Final = "configs/sam2.1/sam2.1_hiera_t.yaml"
OVERRIDES: Final = (
    "model.image_size=128",
    "model.image_encoder.trunk.embed_dim=16",
    "model.image_encoder.trunk.stages=[1,2,3,1]",
    "model.image_encoder.trunk.global_att_blocks=[4]",
    "model.image_encoder.neck.backbone_channel_list=[128,64,32,16]",
)
OVERRIDING: Final = tuple(f"--override={one}" for one in OVERRIDES)
SIDE: Final = 8


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, other ones in each layer."""
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(draw_weights(build_model(CONFIG, OVERRIDES), 0), path)
    return path


@pytest.fixture(scope="module")
def sam(weights: Path) -> Any:
    return load_model(CONFIG, OVERRIDES, weights)


@pytest.fixture(scope="module")
def public(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The public side's graph, by the script that makes it."""
    path = tmp_path_factory.mktemp("public") / "public.onnx"
    facts = run_script("public_attention", CONFIG, weights, path, *OVERRIDING)
    assert facts["tables"] == 13
    return path


def tensors_of(inputs: Inputs) -> list[torch.Tensor]:
    return [torch.from_numpy(inputs[name]) for name in NAMES]


@functools.cache
def open_graph(path: Path) -> Any:
    """A session, which takes seconds to optimize a graph of thousands of nodes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_graph(path: Path, inputs: Inputs) -> Floats:
    output: Floats = open_graph(path).run([OUTPUT], inputs)[0]
    return output


def apart(one: Floats, wanted: Floats) -> float:
    assert one.shape == wanted.shape
    return float(np.abs(one - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize(("frames", "pointers"), [(1, 1), (2, 3), (7, 16)])
def test_all_sides_compute_the_same(sam: Any, public: Path, frames: int, pointers: int) -> None:
    inputs = make_inputs(frames, pointers, SIDE)
    with torch.inference_mode():
        eager = attend(sam, *tensors_of(inputs)).numpy()
        ours = (
            TrackerMemoryAttention(sam, SIDE, parts=PARTS["split"])
            .eval()(*tensors_of(inputs))
            .numpy()
        )
    assert eager.std() > 0.1
    assert apart(run_graph(public, inputs), eager) < 1e-5
    assert apart(ours, eager) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_every_input_counts(sam: Any, name: str) -> None:
    """Or sides that leave one out would agree."""
    inputs = make_inputs(2, 3, SIDE)
    changed = {**inputs, name: np.array(-inputs[name], np.float32)}
    with torch.inference_mode():
        one, other = (attend(sam, *tensors_of(given)).numpy() for given in (inputs, changed))
    assert apart(other, one) > 1e-4


def test_the_graph_has_the_known_properties(public: Path) -> None:
    facts = count_facts(onnx.load_model(public), SIDE)
    check_facts(facts)
    assert (facts["tables"], facts["ScatterND"]) == (13, 9)
    assert facts["table_bytes"] == SIDE * SIDE * 128 * 2 * 2 * 4
    assert 36 <= facts["Expand"] <= 44
    assert 2400 <= facts["nodes"] <= 2900


def test_its_inputs_and_outputs_are_the_contract_s(public: Path) -> None:
    session = open_graph(public)
    assert tuple(one.name for one in session.get_inputs()) == NAMES
    assert [one.name for one in session.get_outputs()] == [OUTPUT]
    assert session.get_inputs()[3].shape == ["batch", "buff_size", 64, SIDE, SIDE]


def test_a_graph_without_those_properties_is_refused(public: Path) -> None:
    model = onnx.load_model(public)
    scatters = [node for node in model.graph.node if node.op_type == "ScatterND"]
    model.graph.node.remove(scatters[0])
    with pytest.raises(ValueError, match="8 ScatterND, not 9"):
        check_facts(count_facts(model, SIDE))
    with pytest.raises(ValueError, match="0 tables, not 13"):
        check_facts(count_facts(onnx.load_model(public), SIDE * 2))


def test_a_rotation_turns_pairs_of_channels() -> None:
    matrices = rotation_matrices(3, 8, 10000.0)
    assert matrices.shape == (1, 1, 9, 4, 2, 2)
    x = torch.zeros(1, 1, 9, 8)
    x[..., 0] = x[..., 4] = 1
    turned = rotate(x, matrices)
    # The first frequency is 1: by the column for the first half, by the row for the second.
    for cell in range(9):
        row, column = divmod(cell, 3)
        wanted = [np.cos(column), np.sin(column), 0, 0, np.cos(row), np.sin(row), 0, 0]
        assert turned[0, 0, cell].tolist() == pytest.approx(wanted, abs=1e-6)


def run_script(name: str, *arguments: str | Path) -> Any:
    command = [sys.executable, "-m", f"bench.sides.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_scripts_measure_and_agree(weights: Path, public: Path, tmp_path: Path) -> None:
    size = ("--frames=2", "--pointers=3", "--threads=1")
    one = run_script("attention", "onnx", public, tmp_path / "graph.npy", *size)
    eager: list[str | Path] = [CONFIG, weights, tmp_path / "eager.npy", *OVERRIDING]
    other = run_script("attention", "eager", *eager, *size)
    assert one["runtime"].startswith("onnxruntime ")
    assert other["runtime"].startswith("torch ")
    assert one["load_seconds"] > 0
    assert other["load_seconds"] is None
    assert min(one["run_seconds"], other["run_seconds"]) > 0
    # The graph's process does not hold PyTorch.
    assert 2e7 < one["peak_bytes"] < other["peak_bytes"] - 5e7
    files = [tmp_path / "eager.npy", tmp_path / "graph.npy", tmp_path / "eager.npy"]
    told = run_script("agreement", *files)
    assert 0 < told["differences"][0] < 1e-5
    assert told["differences"][1] == 0
    assert told["deviation"] > 0.1


def test_another_graph_is_no_side(tmp_path: Path, public: Path) -> None:
    model = onnx.load_model(public)
    first, second = model.graph.input[0], model.graph.input[1]
    swapped = [type(first).FromString(one.SerializeToString()) for one in (second, first)]
    rest = [type(first).FromString(one.SerializeToString()) for one in model.graph.input[2:]]
    del model.graph.input[:]
    model.graph.input.extend([*swapped, *rest])
    onnx.save_model(model, tmp_path / "swapped.onnx")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_script("attention", "onnx", tmp_path / "swapped.onnx", tmp_path / "out.npy")
    assert "is not a memory attention of the contract" in caught.value.stderr


def test_a_difference_is_told_relative_to_the_largest_value(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.array([0.0, -4.0, 2.0], np.float32))
    np.save(tmp_path / "other.npy", np.array([1.0, -4.0, 2.0], np.float32))
    np.save(tmp_path / "nan.npy", np.array([np.nan, -4.0, 2.0], np.float32))
    files = [tmp_path / f"{name}.npy" for name in ("one", "other", "nan")]
    told = run_script("agreement", *files)["differences"]
    assert told[0] == 0.25
    assert np.isnan(told[1])


def test_memory_that_was_given_back_counts() -> None:
    before = peak_bytes()
    held = np.ones(50_000_000, np.float64)
    del held
    assert peak_bytes() >= max(before, 400_000_000)
