"""The Docker runner as it is offered: where an engine answers and images can be had."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelkiln.containers import images, owner
from modelkiln.environments.environment import Environment
from modelkiln.environments.provisioner import Provisioner
from modelkiln.errors import EnvironmentFailure
from modelkiln.runners.containers import DockerRunner
from modelkiln.runners.docker import RUNNER
from tests.conftest import TOY


@pytest.fixture
def provisioner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Provisioner:
    monkeypatch.delenv("MODELKILN_PINS", raising=False)
    return Provisioner(cache=tmp_path, folders=(TOY / "docker",))


@pytest.fixture
def without(tmp_path: Path) -> Environment:
    """An environment that has no Dockerfile."""
    nowhere = tmp_path / "none"
    return Environment(
        name="bald", lock=nowhere, settings=nowhere, selftest=nowhere, dockerfile=nowhere
    )


class Engine:
    """An engine that answers."""

    rootless = False
    kind = "docker"

    def __str__(self) -> str:
        return "Docker 1.2.3"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(owner, "open_engine", lambda: made)
    return made


def test_what_a_stage_does_stays_in_its_container_and_its_identity_is_an_images(
    provisioner: Provisioner,
) -> None:
    assert RUNNER.contains
    small = provisioner.environment("small")
    found = RUNNER.identify(provisioner, small, asked=True)
    assert found == small.image_identity(provisioner.base(small))


def test_without_a_dockerfile_there_is_no_identity(
    provisioner: Provisioner, without: Environment
) -> None:
    assert RUNNER.identify(provisioner, without, asked=False) is None
    with pytest.raises(EnvironmentFailure, match="not available as an image"):
        RUNNER.identify(provisioner, without, asked=True)


@pytest.mark.parametrize(
    ("asked", "said"), [(True, "not available as an image"), (False, "bald has no Dockerfile")]
)
def test_without_a_dockerfile_nothing_is_offered(
    provisioner: Provisioner, without: Environment, asked: bool, said: str
) -> None:
    with pytest.raises(EnvironmentFailure, match=said):
        RUNNER.offer(provisioner, [without], asked=asked)


def test_an_obstacle_is_looked_for_where_nobody_asked_for_it(
    provisioner: Provisioner, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "find_obstacle", lambda *_, **__: "it has no room")
    small = provisioner.environment("small")
    with pytest.raises(EnvironmentFailure, match=r"Docker 1\.2\.3 answers, but it has no room"):
        RUNNER.offer(provisioner, [small], asked=False)
    assert RUNNER.offer(provisioner, [small], asked=True).why == "Docker 1.2.3 answers"


def test_images_are_made_when_they_are_needed(
    provisioner: Provisioner, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ensure(_: object, wanted: Environment, *__: object, **options: Any) -> object:
        asked.append(f"{wanted.name} {options['offline']}")
        return SimpleNamespace(id="sha256:1")

    monkeypatch.setattr(images, "find_obstacle", lambda *_, **__: "")
    monkeypatch.setattr(images, "ensure_image", ensure)
    runner = RUNNER.offer(provisioner, [provisioner.environment("small")], asked=False).make()
    assert isinstance(runner, DockerRunner) and asked == []
    runner.get_ready(["small"])
    assert asked == ["small False"]
