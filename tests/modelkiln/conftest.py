"""For tests with examples of Hypothesis: how fast the machine is makes none of them fail.

And what tests of several packages start from."""

import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from modelkiln.building import report
from modelkiln.commands import inspect
from modelkiln.environments.base_images import BasePin
from tests.modelkiln.fake_registry import DIGEST, FakeRegistry, serve
from tests.modelkiln.locked import make_locked, see_only
from tests.modelkiln.quality_case import BENEFIT, CHECKS, PLAN

settings.register_profile("any-speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-speed")


@pytest.fixture
def own_pictures(tmp_path: Path) -> Path:
    """A folder of three pictures of a user's own."""
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
        "own": {"summary": CHECKS["summary"], "benefit": BENEFIT, "timings": {}},
        "of another": {"timings": {"encoder": {"load_seconds": 1, "run_seconds": 1, "runs": 1}}},
    }
    for module in (inspect, report):
        monkeypatch.setattr(module, "find_manifest", lambda *_: manifest)
        monkeypatch.setattr(module, "target_folder", lambda *_: tmp_path)
    contract = SimpleNamespace(summary="an image")
    target = SimpleNamespace(
        name=manifest["target"], warning="", contract=contract, graphs=[], format="onnx-int8"
    )
    prepared = SimpleNamespace(targets=(target,), left_out=())
    monkeypatch.setattr(inspect, "prepare", lambda *_, **__: prepared)
    store = SimpleNamespace(record=lambda key: SimpleNamespace(metrics=records[key]))
    return SimpleNamespace(kiln=SimpleNamespace(store=store), target=target, folder=tmp_path)


@pytest.fixture
def registry() -> type[FakeRegistry]:
    """A registry that knows one image under its tag and its digest."""

    class One(FakeRegistry):
        manifests = {"3.11": DIGEST, DIGEST: DIGEST}  # noqa: RUF012
        methods = []  # noqa: RUF012

    return One


@pytest.fixture
def base(registry: type[FakeRegistry], monkeypatch: pytest.MonkeyPatch) -> Iterator[BasePin]:
    """A base whose registry is that one."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(registry) as host:
        yield BasePin(
            name="python",
            image=f"{host}/team/python",
            tag="3.11",
            digest=DIGEST,
            interpreter="cpython-3.11.9-x86_64",
        )


@pytest.fixture(scope="session")
def made(shared_room: Path) -> Path:
    """A folder of packages and a repository locked to them, which tests copy."""
    place = shared_room / "locked"
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            half = place.with_suffix(".part")
            make_locked(half)
            half.rename(place)
    return place


@pytest.fixture
def wheels(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages, the only one that uv sees."""
    folder = shutil.copytree(made / "wheels", tmp_path / "wheels")
    see_only(folder, monkeypatch)
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path, wheels: Path) -> Path:
    """A repository of two locks, with nothing at fault."""
    return shutil.copytree(made / "root", tmp_path / "root")
