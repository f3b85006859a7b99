"""The sides of bench.dinov2, on a DINOv2 shrunken to two blocks and pictures of 70 pixels."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file

from bench.sides.features import join_tokens, make_picture
from bench.sides.operators import IN_ATTENTION, WITH_WEIGHTS, sum_operators
from exporters.dinov2.checkpoint import Checkpoint
from exporters.weights.random import draw_weights

ROOT: Final = Path(__file__).resolve().parents[3]
WIDTH, DEPTH, SIDE = 48, 2, 70
TOKENS: Final = 1 + (SIDE // 14) ** 2
SETTINGS: Final[Mapping[str, Any]] = {
    "architecture": "vit_small_patch14_dinov2",
    "embed_dim": WIDTH,
    "patch": 14,
    "native": SIDE,
    "registers": 0,
    "overrides": {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": 3},
}


def run_script(name: str, *arguments: str | Path) -> Any:
    command = [sys.executable, "-m", f"bench.sides.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(draw_weights(Checkpoint(SETTINGS), 0), path)
    return path


@pytest.fixture(scope="module")
def plain(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain side's graph."""
    path = tmp_path_factory.mktemp("plain") / "plain.onnx"
    told = run_script("plain_features", json.dumps(SETTINGS), weights, path, "--opset=18")
    assert told == {"bytes": path.stat().st_size}
    return path


def test_the_scripts_measure_and_agree(weights: Path, plain: Path, tmp_path: Path) -> None:
    flags = ("--threads=1", "--runs=2")
    one = run_script("features", "onnx", plain, tmp_path / "graph.npy", *flags)
    eager: list[str | Path] = ["eager", json.dumps(SETTINGS), weights, tmp_path / "eager.npy"]
    other = run_script("features", *eager, *flags)
    assert one["runtime"].startswith("onnxruntime ")
    assert other["runtime"].startswith("torch ")
    assert one["load_seconds"] > 0
    assert other["load_seconds"] is None
    assert min(one["run_seconds"], other["run_seconds"]) > 0
    # The graph's process does not hold PyTorch.
    assert 2e7 < one["peak_bytes"] < other["peak_bytes"] - 5e7
    assert np.load(tmp_path / "eager.npy").shape == (1, TOKENS, WIDTH)
    told = run_script("agreement", tmp_path / "eager.npy", tmp_path / "graph.npy")
    assert 0 < told["differences"][0] < 1e-5
    assert told["deviation"] > 0.1


def test_the_plain_graph_is_as_the_exporter_left_it(plain: Path) -> None:
    model = onnx.load_model(plain)
    operators = {node.op_type for node in model.graph.node}
    assert {"Shape", "Gather", "Expand"} <= operators
    assert model.opset_import[0].version == 18
    (image,), (tokens,) = model.graph.input, model.graph.output
    assert (image.name, tokens.name) == ("image", "tokens")


def test_a_graph_of_other_inputs_is_no_side(plain: Path, tmp_path: Path) -> None:
    model = onnx.load_model(plain)
    model.graph.input.append(
        onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1])
    )
    onnx.save_model(model, tmp_path / "more.onnx")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_script("features", "onnx", tmp_path / "more.onnx", tmp_path / "out.npy")
    assert "does not take one picture of one size" in caught.value.stderr


def test_outputs_are_joined_in_their_order() -> None:
    cls, patches = np.ones((1, 3), np.float32), np.zeros((1, 4, 3), np.float32)
    joined = join_tokens([cls, patches])
    assert joined.shape == (1, 5, 3)
    assert joined[0, :, 0].tolist() == [1, 0, 0, 0, 0]


def test_the_picture_is_the_same_for_every_side() -> None:
    one = make_picture(14, 28)
    assert one.shape == (1, 3, 14, 28)
    assert one.std() > 0.9
    assert np.array_equal(one, make_picture(14, 28))


def test_a_profile_counts_every_product(plain: Path, tmp_path: Path) -> None:
    told = run_script("operators", plain, tmp_path, "--runs=3", "--threads=1")
    assert told["nodes"] == len(onnx.load_model(plain).graph.node)
    found = told["operators"]
    # Queries, keys and values in one, the projection after them, and the two of the feed-forward.
    assert found[WITH_WEIGHTS]["products"] == DEPTH * TOKENS * WIDTH * WIDTH * (3 + 1 + 4 + 4)
    assert found[IN_ATTENTION]["products"] == DEPTH * 2 * TOKENS * TOKENS * WIDTH
    assert (found[WITH_WEIGHTS]["nodes"], found[IN_ATTENTION]["nodes"]) == (4 * DEPTH, 2 * DEPTH)
    assert {"Softmax", "LayerNormalization", "Conv"} <= found.keys()
    assert found["Softmax"]["products"] == 0
    seconds = [one["seconds"] for one in found.values()]
    assert min(seconds) > 0
    assert seconds == sorted(seconds, reverse=True)
    assert not list(tmp_path.iterdir())


def event(name: str, operator: str, microseconds: int) -> dict[str, Any]:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "dur": microseconds,
        "args": {"op_name": operator},
    }


def test_an_operator_s_time_is_the_median_of_its_sums() -> None:
    rounds = [(9, 9), (1, 10), (3, 10), (2, 90)]
    events = [
        made
        for one, other in rounds
        for made in (event("a", "Add", one), event("b", "Add", other), event("c", "Mul", 1))
    ]
    noise = [{"cat": "Session", "name": "model_run", "dur": 5}]
    found = sum_operators([*noise, *events], 3)
    assert found["Add"] == {"seconds": pytest.approx(13e-6), "nodes": 2, "products": 0}
    assert list(found) == ["Add", "Mul"]


@pytest.mark.parametrize("count", [0, 3, 5])
def test_a_profile_of_other_runs_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="other than 4 runs"):
        sum_operators([event("a", "Add", 1)] * count, 3)
