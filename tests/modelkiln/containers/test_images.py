"""Images of environments by their record, without an engine; tests/containers has real builds."""

import json
import subprocess
from pathlib import Path
from typing import Any

import docker
import pytest

from modelkiln.containers import images
from modelkiln.containers.images import (
    Image,
    ensure_image,
    explain_build,
    find_image,
    find_obstacle,
    forget,
    image_name,
    sweep,
)
from modelkiln.environments.base_images import BasePin
from modelkiln.environments.environment import Environment, environment
from modelkiln.errors import EnvironmentFailure, KilnError, OutOfSpace, PinError
from tests.modelkiln.containers.fake_docker import Api, make_engine

BASE = BasePin(
    name="python", image="a/b", tag="1", digest=f"sha256:{'0' * 64}", interpreter="cpython"
)


@pytest.fixture
def bare(tmp_path: Path) -> Environment:
    room = tmp_path / "docker" / "bare"
    room.mkdir(parents=True)
    (room / "requirements.txt").write_text("")
    (room / "environment.toml").write_text("bytes = 1000\nseed = []\n[variables]\n")
    (room / "Dockerfile").write_text("FROM a\n")
    return environment("bare", tmp_path / "docker")


def put_on_record(cache: Path, bare: Environment, *layers: list[str]) -> Path:
    path = cache / "images" / f"{bare.image_digest(BASE)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    builds = [{"builder": "b", "engine": "e", "layers": one} for one in layers]
    path.write_text(json.dumps({"builds": builds}))
    return path


def having(*layers: str) -> Api:
    return Api(inspect_image={"Id": "sha256:1", "RootFS": {"Layers": [*layers]}, "Size": 7})


def test_an_image_counts_with_the_layers_of_any_build_on_record(
    tmp_path: Path, bare: Environment
) -> None:
    name = image_name(bare, BASE)
    assert name == f"modelkiln/bare:{bare.image_digest(BASE)[:16]}"
    put_on_record(tmp_path, bare, ["x"], ["a", "b"])
    engine = make_engine(having("a", "b"), kind="podman")
    assert find_image(engine, bare, BASE, cache=tmp_path) == Image(
        name=f"localhost/{name}", id="sha256:1", layers=("a", "b"), bytes=7
    )
    with pytest.raises(PinError, match="not the one that was built") as caught:
        find_image(make_engine(having("a", "c")), bare, BASE, cache=tmp_path)
    assert "invoke image.build bare --rebuild" in caught.value.next


@pytest.mark.parametrize("text", [None, "{", "[]", '{"builds": 3}', '{"builds": [{}]}'])
def test_an_image_that_nobody_saw_being_built_is_none(
    tmp_path: Path, bare: Environment, text: str | None
) -> None:
    path = put_on_record(tmp_path, bare)
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert find_image(make_engine(having("a")), bare, BASE, cache=tmp_path) is None


def test_an_image_that_is_not_there_is_none_and_a_dead_engine_is_told(
    tmp_path: Path, bare: Environment
) -> None:
    put_on_record(tmp_path, bare, ["a"])
    gone = make_engine(Api(inspect_image=docker.errors.ImageNotFound("no")))
    assert find_image(gone, bare, BASE, cache=tmp_path) is None
    dead = make_engine(Api(inspect_image=docker.errors.DockerException("no")))
    with pytest.raises(EnvironmentFailure):
        find_image(dead, bare, BASE, cache=tmp_path)


def test_an_image_that_is_there_is_not_built(tmp_path: Path, bare: Environment) -> None:
    put_on_record(tmp_path, bare, ["a"])
    engine = make_engine(having("a"))
    words: dict[str, Any] = {"cache": tmp_path, "offline": True, "on_progress": lambda *_: None}
    assert ensure_image(engine, bare, BASE, **words).id == "sha256:1"
    assert find_obstacle(engine, bare, BASE, cache=tmp_path, offline=True) == ""


def test_what_stands_in_the_way_is_told(
    tmp_path: Path, bare: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = make_engine(Api(inspect_image=docker.errors.ImageNotFound("no")))

    def obstacle(*, offline: bool = False) -> str:
        return find_obstacle(engine, bare, BASE, cache=tmp_path, offline=offline)

    monkeypatch.setattr(images, "find_base_obstacle", lambda *_, **__: "")
    assert obstacle() == ""
    monkeypatch.setattr(images, "is_whole", lambda *_: False)
    assert "are not in the cache (--offline)" in obstacle(offline=True)
    monkeypatch.setattr(images, "find_base_obstacle", lambda *_, **__: "there is no base")
    assert obstacle() == "the bare image cannot be built: there is no base"
    engine.root = tmp_path
    monkeypatch.setattr(images, "disk_free", lambda _: 2999)
    assert obstacle() == f"{tmp_path} has no room for the bare image (3.0 kB)"
    monkeypatch.setattr(images, "disk_free", lambda _: 3000)
    assert "there is no base" in obstacle()


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("a\nwrite /x: No space left on device\nb", OutOfSpace, "write /x: No space left"),
        ("OSError: [Errno 28] full", OutOfSpace, "disk is full"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES", PinError, "altered since it was fetched"),
        ("\n".join(map(str, range(100))), EnvironmentFailure, "\n99"),
        ("", EnvironmentFailure, "The builder said nothing."),
    ],
)
def test_a_failed_build_is_told_by_its_last_words(
    bare: Environment, said: str, kind: type[KilnError], words: str
) -> None:
    error = explain_build(said, Path("/cache/images/1.log"), bare)
    assert type(error) is kind
    assert words in str(error) and "/cache/images/1.log" in error.next
    assert "\n79\n" not in str(error), "only the last lines are shown"


def test_what_builds_left_is_swept_and_a_dead_engine_stops_nothing() -> None:
    api = Api(containers=[{"Id": "c1"}], remove_container=None)
    kept = Api(prune=None)
    sweep(make_engine(api, kept), "d1")
    assert [given for given, _ in api.named("remove_container")] == [("c1",)]
    assert all(words["filters"]["dangling"] for _, words in kept.named("prune"))
    assert len(kept.calls) == 2
    sweep(make_engine(Api(containers=docker.errors.DockerException())), "d1")


def test_a_record_is_forgotten_with_its_log(tmp_path: Path) -> None:
    forget("d1", tmp_path)
    (tmp_path / "images").mkdir()
    for name in ("d1.json", "d1.log", "d2.json"):
        (tmp_path / "images" / name).touch()
    forget("d1", tmp_path)
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["d2.json"]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://host.example/a.git", True),
        ("git@host.example:a.git", True),
        ("https://user:secret@host.example/a.git", False),
        ("/home/somebody/a", False),
    ],
)
def test_only_a_public_address_is_told(tmp_path: Path, address: str, shown: bool) -> None:
    def git(*words: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.example")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("remote", "add", "origin", address)
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "one")
    labels = images._source(tmp_path)
    assert labels.get("org.opencontainers.image.source") == (address if shown else None)
    assert len(labels["org.opencontainers.image.revision"]) == 40
    # A revision is that of files as they were committed.
    (tmp_path / "file").write_text("2")
    assert "org.opencontainers.image.revision" not in images._source(tmp_path)
