"""What BuildKit remembers of a build is forgotten; what others built is not."""

from typing import Any

import docker
import pytest

from modelkiln.containers.build_cache import forgotten
from tests.modelkiln.containers.fake_docker import Api, make_engine

LARGE = 60_000_000


def entry(name: str, created: int, size: int = LARGE, **more: Any) -> dict[str, Any]:
    return {"ID": name, "CreatedAt": str(created), "Size": size, "InUse": False, **more}


def forget(*states: Any, **answers: Any) -> list[str]:
    """Ids of what is removed where the builder's cache has these states, before and after."""
    left = list(states)

    def df() -> object:
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return {"BuildCache": found}

    api = Api(df=df, prune_builds=None, **answers)
    with forgotten(make_engine(api)):
        pass
    return [words["filters"]["id"] for _, words in api.named("prune_builds")]


def test_what_is_large_and_new_goes_with_what_stands_on_it() -> None:
    old = entry("old", 1)
    after = [
        entry("leaf", 5, size=1, Parents=["middle"]),
        old,
        entry("middle", 4, size=1, Parent="new"),
        entry("new", 3),
        entry("small", 6, size=10),
        entry("used", 7, InUse=True),
        entry("other", 8, size=1, Parent="old"),
    ]
    # What stands on another goes first.
    assert forget([old], after) == ["leaf", "middle", "new"]


def test_where_it_is_not_known_what_was_there_everything_stays() -> None:
    assert forget(docker.errors.DockerException(), [entry("new", 1)]) == []
    assert forget([], docker.errors.DockerException()) == []
    assert forget(None, [entry("new", 1)]) == ["new"]


def test_a_build_that_fails_is_forgotten_too() -> None:
    left = [[], [entry("new", 1)]]
    api = Api(df=lambda: {"BuildCache": left.pop(0)}, prune_builds=docker.errors.DockerException())
    with pytest.raises(ZeroDivisionError), forgotten(make_engine(api)):
        raise ZeroDivisionError
    assert len(api.named("prune_builds")) == 1
