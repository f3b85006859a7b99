"""For tests with examples of Hypothesis: how fast the machine is makes none of them fail.

And pictures of a user's own."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from modelkiln.building import report
from modelkiln.commands import inspect
from tests.modelkiln.quality_case import BENEFIT, CHECKS, PLAN

settings.register_profile("any-speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-speed")


@pytest.fixture
def own_pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(bytes([number]))
    return folder


@pytest.fixture
def built_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A target's folder and its manifest, with a store that has the record of its verification."""
    (tmp_path / "verification.json").write_text(json.dumps(CHECKS))
    (tmp_path / "quantization.json").write_text(json.dumps(PLAN))
    steps = {
        "tiny/image/onnx-fp32/verify": "of another",
        "tiny/image/onnx-int8/verify": "own",
    }
    manifest = {
        "target": "tiny/image/onnx-int8",
        "model": "tiny",
        "contract": {"name": "image", "version": 1},
        "parameters": {},
        "license": "Apache-2.0",
        "modelkiln": "0",
        "environment": {},
        "weights": {"kind": "random", "seed": 0},
        "files": {"quantization.json": {"bytes": 1, "sha256": "ab"}},
        "graphs": {},
        "verification": CHECKS["summary"],
        "steps": {
            name: {"key": key, "runner": "local", "sealed": "full"} for name, key in steps.items()
        },
    }
    records = {
        "own": {"benefit": BENEFIT, "timings": {}},
        "of another": {"timings": {"encoder": {"load_seconds": 1, "run_seconds": 1, "runs": 1}}},
    }
    for module in (inspect, report):
        monkeypatch.setattr(module, "find_manifest", lambda *_: manifest)
        monkeypatch.setattr(module, "target_folder", lambda *_: tmp_path)
    contract = SimpleNamespace(summary="an image")
    target = SimpleNamespace(
        name=manifest["target"], warning="", contract=contract, graphs=[], format="onnx-int8"
    )
    monkeypatch.setattr(inspect, "prepare", lambda *_: SimpleNamespace(target=target))
    store = SimpleNamespace(record=lambda key: SimpleNamespace(metrics=records[key]))
    return SimpleNamespace(kiln=SimpleNamespace(store=store), target=target, folder=tmp_path)
