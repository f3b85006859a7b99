"""A build at work: checkpoints, stages, other builders, and an end from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import make_plan
from modelkiln.building.session import STEPS, Session
from modelkiln.commands.build import build_targets
from modelkiln.errors import EnvironmentFailure
from modelkiln.fetch import download
from modelkiln.fetch.download import Patience
from modelkiln.paths import REPOSITORY
from modelkiln.store.store import Store
from tests.modelkiln.lower_precision import INT8, MakeKiln, see_gpu
from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke, assert_sound, folder


def test_a_killed_stage_is_told_as_memory(invoke: Invoke, toy_copy: Path, toy: Path) -> None:
    models = toy_copy / "models" / "toy.toml"
    models.write_text(models.read_text().replace('"differ"', '"die"'))
    done = invoke("build", "toy_wrong/words/toy-text", *RANDOM)
    assert done.returncode == 9
    assert "memory" in done.stderr
    assert_sound(toy)


@dataclass(frozen=True, kw_only=True)
class Impatient(Patience):
    """Tries again at once."""

    pause: float = 0.0


def test_official_weights_that_cannot_be_had_are_never_replaced(
    make_kiln: Callable[..., Kiln], invoke: Invoke, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "Patience", Impatient)
    with pytest.raises(EnvironmentFailure, match=r"toy_a\.pt") as caught:
        build_targets(make_kiln(weights="official"), TARGET)
    assert caught.value.exit_code == 4
    assert not (toy / "out").exists()
    offline = invoke("build", TARGET, "--offline")
    assert offline.returncode == 4
    assert "offline" in offline.stderr
    assert not (toy / "out").exists()


def start(toy: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=REPOSITORY,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(toy: Path, pattern: str) -> None:
    for _ in range(400):
        if list(toy.glob(pattern)):
            return
        time.sleep(0.05)
    raise AssertionError(f"{pattern} did not appear in {toy}")


def stages_alive(toy: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if path.readlink().is_relative_to(toy):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_build_leaves_nothing_behind(
    invoke: Invoke, toy: Path, sign: signal.Signals
) -> None:
    process = start(toy, "build", "toy_slow/words/toy-text", *RANDOM)
    wait_for(toy, "scratch/*/started")
    process.send_signal(sign)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert "Stopped" in said
    assert stages_alive(toy) == []
    assert_sound(toy)
    # What was finished is kept.
    assert "hit" in invoke("plan", "toy_slow/words/toy-text", *RANDOM).stdout


def test_a_killed_build_leaves_a_valid_store_and_no_stage(invoke: Invoke, toy: Path) -> None:
    process = start(toy, "build", "toy_slow/words/toy-text", *RANDOM)
    wait_for(toy, "scratch/*/started")
    process.kill()
    process.communicate(timeout=20)
    for _ in range(100):
        if not stages_alive(toy):
            break
        time.sleep(0.05)
    assert stages_alive(toy) == []
    assert Store(toy).verify() == []
    # The next command clears what the killed one left.
    assert invoke("build", TARGET, *RANDOM).returncode == 0
    assert_sound(toy)


def test_two_builders_share_the_work(toy: Path) -> None:
    builders = [start(toy, "build", TARGET, *RANDOM, "--json") for _ in range(2)]
    told = [json.loads(one.communicate(timeout=60)[0]) for one in builders]
    assert [one.returncode for one in builders] == [0, 0]
    assert all(one["published"] for one in told)
    # Each step ran in exactly one of them.
    ran = [step for one in told for step in one["seconds"]]
    assert sorted(ran) == sorted(json.loads(manifest(toy).read_text())["steps"])
    assert_sound(toy)


def manifest(toy: Path) -> Path:
    return folder(toy) / "manifest.json"


def test_a_waiting_builder_says_for_whom(toy: Path, toy_copy: Path) -> None:
    behaviour = toy_copy / "exporters" / "toy" / "behaviour.py"
    behaviour.write_text(behaviour.read_text().replace("time.sleep(60)", "time.sleep(3)"))
    first = start(toy, "build", "toy_slow/words/toy-text", *RANDOM)
    wait_for(toy, "scratch/*/started")
    second = start(toy, "build", "toy_slow/words/toy-text", *RANDOM)
    _, said = second.communicate(timeout=60)
    first.communicate(timeout=60)
    assert first.returncode == second.returncode == 0
    assert "made by another builder" in said


def test_cuda_where_there_is_none_ends_before_anything_runs(
    make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    kiln = see_gpu(make_kiln(parameters={"calibration_eps": "cuda"}), False)
    plan = make_plan(kiln, kiln.targets(INT8))
    ready: list[list[str]] = []

    class Runner:
        def get_ready(self, names: list[str]) -> None:
            ready.append(names)

    monkeypatch.setattr("modelkiln.building.session.require_disk", lambda *_: None)

    def get_ready(kiln: Kiln) -> None:
        session = Session(kiln, plan, Runner(), None)  # type: ignore[arg-type]
        for do in STEPS[:-1]:
            do(session)

    with pytest.raises(EnvironmentFailure, match=r"no GPU for .*calibrate@") as caught:
        get_ready(kiln)
    assert caught.value.exit_code == 4
    assert ready == []
    get_ready(see_gpu(kiln, True))
    assert ready
