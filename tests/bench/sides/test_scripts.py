"""The scripts of the benches and of the web check that run inside the export environment."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.web.graphs import write_graphs

ROOT = Path(__file__).resolve().parents[3]


def run_script(script: str, *arguments: str | Path) -> str:
    command = [sys.executable, ROOT / script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_latency_measures_each_graph_each_round(tmp_path: Path) -> None:
    one = write_graphs(tmp_path / "one") / "encoder.onnx"
    other = write_graphs(tmp_path / "other", scale=3.3) / "encoder.onnx"
    told = json.loads(
        run_script(
            "bench/sides/latency.py", f"one={one}", f"other={other}", "--rounds=3", "--threads=1"
        )
    )
    assert list(told["graphs"]) == ["one", "other"]
    for name, path in (("one", one), ("other", other)):
        graph = told["graphs"][name]
        assert graph["bytes"] == path.stat().st_size
        assert len(graph["load_seconds"]) == len(graph["run_seconds"]) == 3
        assert min(graph["load_seconds"] + graph["run_seconds"]) > 0
    assert told["differences"]["image_embed"] == pytest.approx(0.1, rel=1e-4)


def test_latency_fills_free_dims(tmp_path: Path) -> None:
    path = write_graphs(tmp_path) / "decoder.onnx"
    told = json.loads(run_script("bench/sides/latency.py", f"one={path}", "--rounds=1"))
    assert told["differences"] == {"masks": 0.0}


def test_a_checkpoint_holds_the_weights(tmp_path: Path) -> None:
    weights = {"one": torch.arange(6.0).reshape(2, 3), "two": torch.ones(1)}
    save_file(weights, tmp_path / "weights.safetensors")
    run_script("bench/sides/checkpoint.py", tmp_path / "weights.safetensors", tmp_path / "out.pt")
    loaded = torch.load(tmp_path / "out.pt", weights_only=True)
    assert list(loaded) == ["model"]
    assert loaded["model"].keys() == weights.keys()
    assert all(torch.equal(loaded["model"][name], weights[name]) for name in weights)


def test_the_reference_holds_what_native_onnx_runtime_computes(tmp_path: Path) -> None:
    graphs = write_graphs(tmp_path / "graphs")
    run_script("web/reference.py", graphs, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "reference.json").read_text())
    assert [case["name"] for case in told["cases"]] == ["encoder", "decoder-1", "decoder-3"]

    def read(entry: dict[str, object]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        data = (tmp_path / "out" / str(entry["file"])).read_bytes()
        dims = [int(size) for size in entry["dims"]]  # type: ignore[attr-defined]
        return np.frombuffer(data, dtype=np.float32).reshape(dims)

    encoder, _, last = told["cases"]
    image = read(encoder["inputs"]["image"])
    embed = read(encoder["outputs"]["image_embed"])
    assert image.std() > 0.1
    expected = 3 * (0.5 * image[:, 0] - image[:, 1] + 2 * image[:, 2])
    np.testing.assert_allclose(embed[:, 0], expected, rtol=1e-5, atol=1e-5)
    points = read(last["inputs"]["point_coords"])
    masks = read(last["outputs"]["masks"])
    assert points.shape == (3, 4, 2)
    np.testing.assert_allclose(
        masks, embed + points.mean(axis=(1, 2))[:, None, None, None], rtol=1e-5
    )


def test_the_reference_is_the_same_every_time(tmp_path: Path) -> None:
    graphs = write_graphs(tmp_path / "graphs")
    for name in ("one", "two"):
        run_script("web/reference.py", graphs, tmp_path / name)
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert len(files) > 5
    assert {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()} == files
