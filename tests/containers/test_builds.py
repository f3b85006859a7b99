"""Builds by the Docker runner as a user would start them, with the toy family, on each engine."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from modelkiln.containers.engine import Engine
from modelkiln.containers.images import Image
from modelkiln.containers.owner import LABEL
from modelkiln.paths import REPOSITORY

INVOKE = (sys.executable, "-m", "invoke")
TARGET = "toy_a+random0/words/toy-text"
Invoke = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def settings(engine: Engine, toy_image: Image, image_cache: Path, tmp_path: Path) -> dict[str, str]:
    """A user's environment variables."""
    return {
        **os.environ,
        "DOCKER_HOST": engine.host,
        "MODELKILN_ARTIFACTS": str(tmp_path / "artifacts"),
        "MODELKILN_CACHE": str(image_cache / engine.kind),
        "MODELKILN_CATALOG": str(REPOSITORY / "tests" / "toy"),
    }


@pytest.fixture
def invoke(settings: Mapping[str, str]) -> Invoke:
    def run(*arguments: str, **more: str) -> object:
        return subprocess.run(
            [*INVOKE, *arguments],
            cwd=REPOSITORY,
            env={**settings, **more},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    return run  # type: ignore[return-value]


def manifest(tmp_path: Path) -> dict[str, object]:
    path = tmp_path / "artifacts" / "out" / TARGET / "manifest.json"
    found: dict[str, object] = json.loads(path.read_text())
    return found


def test_a_target_is_built_in_containers_and_its_manifest_says_so(
    invoke: Invoke, tmp_path: Path
) -> None:
    done = invoke("build", TARGET, "--runner", "docker")
    assert done.returncode == 0, done.stderr
    found = manifest(tmp_path)
    steps = found["steps"]
    assert isinstance(steps, dict)
    assert {(one["runner"], one["sealed"]) for one in steps.values()} == {("docker", "full")}
    environment = found["environment"]
    assert isinstance(environment, dict)
    assert {"dockerfile", "base", "lock", "interpreter"} <= environment.keys()
    again = invoke("build", TARGET, "--runner", "docker", DOCKER_HOST="unix:///nowhere")
    assert again.returncode == 0, "with nothing to do no engine is asked"
    assert "up to date" in again.stdout


def test_auto_takes_the_engine_and_says_so(invoke: Invoke, engine: Engine) -> None:
    done = invoke("build", TARGET)
    assert done.returncode == 0, done.stderr
    assert f"runner: docker ({engine} answers)" in done.stderr


def test_auto_finds_what_either_runner_made(invoke: Invoke) -> None:
    assert invoke("build", TARGET, "--runner", "docker").returncode == 0
    done = invoke("build", TARGET, "--json", DOCKER_HOST="unix:///nowhere")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seconds"] == {}


def test_both_runners_give_the_same_bytes(invoke: Invoke) -> None:
    done = invoke("reproduce", TARGET, "--runner", "docker", "--json")
    assert done.returncode == 0, done.stderr
    assert "in containers" in done.stderr
    assert json.loads(done.stdout)["different"] == []


def test_an_altered_image_is_refused(invoke: Invoke, engine: Engine, toy_image: Image) -> None:
    name, _, tag = toy_image.name.rpartition(":")
    recipe = io.BytesIO(f"FROM {toy_image.id}\nUSER 0\nRUN touch /poison\n".encode())
    poisoned, _ = engine.client.images.build(fileobj=recipe, rm=True)
    try:
        poisoned.tag(name, tag)
        done = invoke("build", TARGET, "--runner", "docker")
        assert done.returncode == 3
        assert "is not the one that was built" in done.stderr
        assert "image.build bare --rebuild" in done.stderr
    finally:
        engine.client.images.get(toy_image.id).tag(name, tag)
        engine.client.images.remove(str(poisoned.id), force=True)
    assert invoke("build", TARGET, "--runner", "docker").returncode == 0


def test_ctrl_c_leaves_a_valid_store_and_no_container(
    settings: Mapping[str, str], engine: Engine, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [*INVOKE, "build", "toy_slow+random0/words/toy-text", "--runner", "docker"],
        cwd=REPOSITORY,
        env=dict(settings),
        stderr=subprocess.PIPE,
        text=True,
    )
    scratch = tmp_path / "artifacts" / "scratch"
    until = time.monotonic() + 60
    while not list(scratch.glob("*/started")) and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert engine.client.api.containers(all=True, filters={"label": LABEL}) == []
    assert [one for one in scratch.glob("*") if one.is_dir()] == []
    checked = subprocess.run(
        [*INVOKE, "store.verify"], cwd=REPOSITORY, env=dict(settings), check=False
    )
    assert checked.returncode == 0
