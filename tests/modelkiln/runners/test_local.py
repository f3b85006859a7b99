"""The local runner as it is offered: it needs nothing, and its environments are installed ones."""

import sys
from pathlib import Path

import pytest

from modelkiln.environments.environment import Environment, environment
from modelkiln.environments.provisioner import Provisioner
from modelkiln.errors import EnvironmentFailure
from modelkiln.paths import REPOSITORY
from modelkiln.runners.local import RUNNER
from modelkiln.runners.processes import LocalRunner


@pytest.fixture
def bare() -> Environment:
    return environment("bare", REPOSITORY / "tests" / "toy" / "docker")


def test_a_pickle_needs_trust_and_an_environment_is_what_is_installed(
    tmp_path: Path, bare: Environment
) -> None:
    assert not RUNNER.contains
    found = RUNNER.identify(Provisioner(cache=tmp_path), bare, asked=False)
    assert found == bare.identity()


def test_what_is_offered_asks_for_the_python_of_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare: Environment
) -> None:
    asked: list[str] = []

    def python(_: Provisioner, name: str) -> Path:
        asked.append(name)
        return Path(sys.executable)

    monkeypatch.setattr(Provisioner, "python", python)
    offer = RUNNER.offer(Provisioner(cache=tmp_path), [bare], asked=False)
    made = offer.make()
    assert isinstance(made, LocalRunner) and asked == []
    made.get_ready(["bare"])
    assert asked == ["bare"]
    assert "no container engine" in offer.why


def test_it_is_not_offered_on_an_older_glibc_unless_all_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rtx = environment("rtx")
    provisioner = Provisioner(cache=tmp_path)
    monkeypatch.setattr("modelkiln.environments.environment.glibc_version", lambda: "2.27")
    with pytest.raises(EnvironmentFailure, match=r"rtx needs glibc 2\.28 or later.*glibc 2\.27"):
        RUNNER.offer(provisioner, [rtx], asked=True)
    python = tmp_path / "environments" / rtx.digest / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (python.parents[1] / "environment.json").write_text("{}")
    assert RUNNER.offer(provisioner, [rtx], asked=True).why
