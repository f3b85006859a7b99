"""For tests of environments: a small one, and a stand-in for uv."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelkiln.environments import uv
from modelkiln.environments.environment import Environment, environment
from tests.modelkiln.environments.installing import LOCK, SETTINGS


@pytest.fixture
def wanted(tmp_path: Path) -> Environment:
    room = tmp_path / "docker" / "small"
    room.mkdir(parents=True)
    (room / "requirements.txt").write_text(LOCK)
    (room / "environment.toml").write_text(SETTINGS)
    (room / "selftest.py").write_text("import sys\nassert sys.prefix != sys.base_prefix\n")
    return environment("small", tmp_path / "docker")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    program = tmp_path / "uv"
    script = Path(__file__).parents[1] / "fake_uv.py"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{script}" "$@"\n')
    program.chmod(0o755)
    log = tmp_path / "runs.jsonl"
    monkeypatch.setattr(uv, "find_uv", lambda: str(program))
    monkeypatch.setenv("UV_FAKE_LOG", str(log))
    monkeypatch.delenv("UV_CACHE_DIR", raising=False)

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    return read
