"""The base images on an engine: known by their digests, and what is said of those that are not
there."""

from types import SimpleNamespace
from typing import Any

import docker
import pytest

from modelkiln.containers.bases import (
    base_name,
    ensure_base,
    explain_pull,
    find_base,
    find_base_obstacle,
    name_on,
)
from modelkiln.environments.base_images import BasePin
from modelkiln.errors import EnvironmentFailure, OutOfSpace
from tests.modelkiln.containers.fake_docker import Api, make_engine

DIGEST = f"sha256:{'ab' * 32}"


def pin(image: str = "team/python") -> BasePin:
    return BasePin(name="python", image=image, tag="3.11", digest=DIGEST, interpreter="cpython")


def image(identity: str = "", digests: tuple[str, ...] = ()) -> Any:
    tags: list[tuple[str, ...]] = []
    attrs = {"RepoDigests": [f"team/python@{one}" for one in digests],
             "RootFS": {"Layers": ["one", "two"]}}  # fmt: skip
    return SimpleNamespace(
        id=identity or f"sha256:{'0' * 64}",
        attrs=attrs,
        tags=tags,
        tag=lambda *words: tags.append(words),
    )


def having(*found: Any) -> Api:
    """Images that are found one call after the other; None for one that is not."""
    left = list(found)

    def get(_: str) -> Any:
        one = left.pop(0) if left else None
        if one is None:
            raise docker.errors.ImageNotFound("no")
        return one

    return Api(get=get)


def test_podman_keeps_short_names_under_its_own_host() -> None:
    assert name_on("docker", "modelkiln/a:1") == "modelkiln/a:1"
    assert name_on("podman", "modelkiln/a:1") == "localhost/modelkiln/a:1"
    assert base_name(pin()) == "modelkiln/base:abababababab"


@pytest.mark.parametrize(
    ("found", "known"),
    [
        (image(DIGEST), True),
        # Podman leaves the kind of the digest out.
        (image("ab" * 32), True),
        (image(digests=(DIGEST,)), True),
        (image(), False),
        (image(digests=(f"sha256:{'cd' * 32}",)), False),
    ],
)
def test_a_base_is_known_by_its_digest_alone(found: Any, known: bool) -> None:
    assert (find_base(make_engine(images=having(found)), pin()) is found) == known


def test_a_base_may_be_known_by_its_name_and_digest() -> None:
    images = having(None, image(digests=(DIGEST,)))
    assert find_base(make_engine(images=images), pin()) is not None
    asked = [given[0] for given, _ in images.named("get")]
    assert asked == [DIGEST, f"team/python@{DIGEST}"]


def test_what_stands_in_the_way_of_a_base_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def obstacle(base: BasePin, **words: bool) -> str:
        return find_base_obstacle(make_engine(images=having()), base, **{"offline": False, **words})

    known = "modelkiln.containers.bases._is_in_registry"
    assert "is not on it" in obstacle(pin("localhost/python"))
    assert "--offline" in obstacle(pin(), offline=True)
    monkeypatch.setattr(known, lambda *_: True)
    assert obstacle(pin()) == ""
    monkeypatch.setattr(known, lambda *_: False)
    assert "does not know its base" in obstacle(pin())

    def fail(*_: object) -> bool:
        raise docker.errors.DockerException

    monkeypatch.setattr(known, fail)
    assert "cannot be reached" in obstacle(pin())
    there = make_engine(images=having(image(DIGEST)))
    assert find_base_obstacle(there, pin(), offline=True) == ""


def test_a_base_that_is_there_gets_a_name_for_builders() -> None:
    found = image(DIGEST)
    engine = make_engine(images=having(found), kind="podman")
    name, layers = ensure_base(engine, pin(), offline=True, on_progress=lambda *_: None)
    assert (name, layers) == ("localhost/modelkiln/base:abababababab", ("one", "two"))
    assert found.tags == [("localhost/modelkiln/base", "abababababab")]


@pytest.mark.parametrize(
    ("base", "offline", "why"),
    [
        (pin(), True, "--offline was given"),
        (pin("localhost/python"), False, "the id of an image made locally"),
    ],
)
def test_a_base_that_must_not_be_pulled_is_told(base: BasePin, offline: bool, why: str) -> None:
    engine = make_engine(images=having())
    with pytest.raises(EnvironmentFailure, match="is not here") as caught:
        ensure_base(engine, base, offline=offline, on_progress=lambda *_: None)
    assert why in caught.value.why and "base.sh" in caught.value.next


def test_a_base_is_pulled_by_its_digest_and_looked_for_again() -> None:
    told: list[str] = []
    api = Api(pull=[{"status": "Downloading", "progress": "1/2"}, {"id": "x"}])
    engine = make_engine(api, having(None, None, image(DIGEST)))
    ensure_base(engine, pin(), offline=False, on_progress=lambda _, text: told.append(text))
    ((given, words),) = api.named("pull")
    assert (given, words["tag"], words["platform"]) == (("team/python",), DIGEST, "linux/amd64")
    assert told[1] == "base image: Downloading 1/2" and len(told) == 2
    lost = make_engine(Api(pull=[]), having())
    with pytest.raises(EnvironmentFailure, match="was pulled and is not there"):
        ensure_base(lost, pin(), offline=False, on_progress=lambda *_: None)


@pytest.mark.parametrize(
    ("said", "kind", "what"),
    [
        ("manifest unknown", EnvironmentFailure, "does not know the base image"),
        ("pull access denied", EnvironmentFailure, "does not know the base image"),
        ("dial tcp: lookup host: not found", EnvironmentFailure, "cannot be pulled"),
        ("unexpected EOF", EnvironmentFailure, "cannot be pulled"),
        ("write: no space left on device", OutOfSpace, ""),
    ],
)
def test_a_pull_that_fails_is_told_by_what_was_said(
    said: str, kind: type[EnvironmentFailure] | type[OutOfSpace], what: str
) -> None:
    error = explain_pull(docker.errors.APIError(said), pin())
    assert type(error) is kind
    assert what in error.what and error.next
