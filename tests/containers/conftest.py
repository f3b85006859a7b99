"""Real container engines for tests, and images of the toy environments on them.

The Docker engine is the one that a build would use; Podman's is named by $MODELKILN_PODMAN. Where
there is none, these tests are skipped and say why; with MODELKILN_REQUIRE_DOCKER=1 they fail.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from modelkiln.containers.engine import Engine, connect
from modelkiln.containers.images import BUILD_LABEL, Image, ensure_image, find_obstacle
from modelkiln.containers.owner import LABEL
from modelkiln.environments.base_images import BasePin, load_base
from modelkiln.environments.environment import environment
from modelkiln.errors import EnvironmentFailure
from modelkiln.paths import REPOSITORY
from modelkiln.runners.containers import DockerRunner

TOY_ROOMS = REPOSITORY / "tests" / "toy" / "docker"
PODMAN = "MODELKILN_PODMAN"


def leave_out(reason: str) -> NoReturn:
    if os.environ.get("MODELKILN_REQUIRE_DOCKER") == "1":
        pytest.fail(f"MODELKILN_REQUIRE_DOCKER=1, and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def docker_engine() -> Engine:
    try:
        found = connect()
    except EnvironmentFailure as error:
        leave_out(error.what)
    return found


@pytest.fixture(scope="session")
def podman_engine() -> Engine:
    host = os.environ.get(PODMAN)
    if not host:
        leave_out(f"{PODMAN} names no socket of Podman's")
    return connect({"DOCKER_HOST": host})


@pytest.fixture(scope="session", params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn."""
    found: Engine = request.getfixturevalue(f"{request.param}_engine")
    return found


@pytest.fixture(scope="session")
def base() -> BasePin:
    """The base of the toy images: a local one where $MODELKILN_PINS names it, else the pinned."""
    return load_base()


@pytest.fixture(scope="session")
def image_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="session")
def toy_image(engine: Engine, base: BasePin, image_cache: Path) -> Image:
    """The image of the toy environment, built once on each engine."""
    cache = image_cache / engine.kind
    bare = environment("bare", TOY_ROOMS)
    obstacle = find_obstacle(engine, bare, base, cache=cache, offline=False)
    if obstacle:
        leave_out(f"{engine} answers, but {obstacle}")
    return ensure_image(engine, bare, base, cache=cache, offline=False, on_progress=lambda *_: None)


@pytest.fixture
def runner(engine: Engine, toy_image: Image) -> DockerRunner:
    """A runner whose one environment, `bare`, is ready."""
    made = DockerRunner(engine, lambda _: toy_image.id)
    made.get_ready(["bare"])
    return made


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test its engines have the containers, networks and volumes of before."""
    names = {"engine", "docker_engine"} & set(request.fixturenames)
    engines: list[Engine] = [request.getfixturevalue(name) for name in sorted(names)]
    before = [_things(one) for one in engines]
    yield
    assert [_things(one) for one in engines] == before


def _things(engine: Engine) -> set[str]:
    client = engine.client
    return {
        *(
            one["Id"]
            for label in (LABEL, BUILD_LABEL)
            for one in client.api.containers(all=True, filters={"label": label})
        ),
        *(one["Id"] for one in client.api.networks()),
        *(one["Name"] for one in client.api.volumes().get("Volumes") or ()),
    }
