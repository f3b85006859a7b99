"""Traces are clean before any simplifier sees them, and the same wherever they are made."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from exporters.graphs.structure import count_ops
from tests.exporters.shrunken import ROOT, SIZE, Done, shrink, write_step

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("opset", [17, 18, 19, 20])
def test_every_opset_is_verified(
    opset: int, converted: Callable[..., Done], verify: Callable[..., Done]
) -> None:
    done = converted("image", opset)
    files = {graph["file"]: done[graph["file"]] for graph in shrink("image")["graphs"]}
    verify(files, opset=opset, quick=True)
    assert ("Gelu" in done.metrics["graphs"]["encoder"]["ops"]) == (opset == 20)


@pytest.mark.parametrize("contract", ["image", "treedect"])
def test_traces_have_no_shape_arithmetic(contract: str, exported: Callable[..., Done]) -> None:
    golden = shrink(contract)
    ops = {
        graph["name"]: count_ops(onnx.load_model(exported(contract)[graph["file"]]))
        for graph in golden["graphs"]
    }
    for graph in golden["graphs"]:
        assert not set(ops[graph["name"]]) & {*golden["forbidden_ops"], *graph["forbidden_ops"]}
    assert ops["decoder"]["Shape"] <= 2


def test_the_position_table_is_not_in_the_file(converted: Callable[..., Done]) -> None:
    model = onnx.load_model(converted()["encoder.onnx"])
    table = sorted((16, SIZE // 4, SIZE // 4))
    for tensor in model.graph.initializer:
        assert sorted(dim for dim in tensor.dims if dim > 1) != table
    assert count_ops(model)["Tile"] == 1
    assert count_ops(model)["Resize"] == 1


def test_other_surroundings_give_the_same_bytes(
    exported: Callable[..., Done], converted: Callable[..., Done], tmp_path: Path
) -> None:
    """Another folder, time zone, locale, hash seed, umask and no forked parent."""
    hashes: dict[str, dict[str, bytes]] = {"export": {}, "convert": {}}
    for stage, done in (("export", exported()), ("convert", converted())):
        given = json.loads((done.folder / "step.json").read_text())
        folder = tmp_path / "elsewhere — außen" / stage
        inputs = {name: done.folder / path for name, path in given["inputs"].items()}
        write_step(folder, stage, given["modules"], given["params"], inputs)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
            "PYTHONHASHSEED": "12345",
            "TZ": "Asia/Kathmandu",
            "LC_ALL": "C",
        }
        subprocess.run(
            [sys.executable, "-m", "exporters", "step.json"],
            cwd=folder,
            env=environment,
            umask=0o077,
            check=True,
            capture_output=True,
        )
        for name in ("encoder.onnx", "decoder.onnx"):
            hashes[stage][name] = (folder / "out" / name).read_bytes()
            assert hashes[stage][name] == done[name].read_bytes(), (stage, name)


def test_the_loaded_modules_are_reported(exported: Callable[..., Done]) -> None:
    modules = exported().result["modules"]
    assert {"exporters.stages.export", "exporters.sam2.image.modules", "exporters.upstream"} <= set(
        modules
    )
    assert not any("random_weights" in name or "dinov2" in name for name in modules)
