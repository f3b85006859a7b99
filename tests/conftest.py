"""For all tests: Ctrl-C counts, even where they were started in the background.

For those on the host, a kiln with a toy family: its stages are real processes that take no time.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Imported late: an environment of the exporters runs tests too, and needs nothing of this.
if TYPE_CHECKING:
    from modelkiln.building.kiln import Kiln

signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent
TOY = REPOSITORY / "tests" / "toy"
NO_ENGINE = "unix:///nowhere/engine.sock"


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests of one run share, so that the toy environment is made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def toy(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment variables of the toy catalog; returns the artifacts folder."""
    monkeypatch.setenv("MODELKILN_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("MODELKILN_CACHE", str(shared_cache))
    monkeypatch.setenv("MODELKILN_CATALOG", str(TOY))
    # The machine's engine, if it has one, is for tests/containers.
    monkeypatch.setenv("DOCKER_HOST", NO_ENGINE)
    return tmp_path / "artifacts"


MakeKiln = Callable[..., "Kiln"]


@pytest.fixture
def make_kiln(toy: Path) -> MakeKiln:
    """Makes kilns on the toy catalog, with random weights unless told otherwise."""

    from modelkiln.building.kiln import Kiln
    from modelkiln.building.options import Options

    def make(artifacts: Path = toy, **options: object) -> Kiln:
        return Kiln(replace(Options(weights="random:0"), **options), artifacts)  # type: ignore[arg-type]

    return make


@pytest.fixture
def toy_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: Path) -> Path:
    """A copy of the toy catalog that a test may edit."""
    import shutil

    copy = tmp_path / "toy"
    shutil.copytree(TOY, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("MODELKILN_CATALOG", str(copy))
    return copy


Invoke = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def invoke(toy: Path) -> Invoke:
    """Runs `invoke ARGUMENTS` as a user would, and returns what it did and said."""

    def run(*arguments: str, settings: Mapping[str, str] | None = None) -> object:
        return subprocess.run(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **(settings or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run  # type: ignore[return-value]
