"""The images that modelkiln made: told from others, and removed where nobody needs them."""

from pathlib import Path
from typing import Any

import docker
import pytest

from modelkiln.containers.images import BUILD_LABEL, LABEL, lock_of
from modelkiln.containers.pruning import Kind, list_images, prune_images
from modelkiln.errors import EnvironmentFailure
from modelkiln.util.flock import hold
from tests.modelkiln.containers.fake_docker import Api, make_engine, refusal


def image(
    name: str | None, digest: str = "", *, created: int = 0, label: str = LABEL
) -> dict[str, Any]:
    return {
        "Id": f"sha256:{name}",
        "RepoTags": None if name is None else [name],
        "Labels": {label: digest} if digest else None,
        "Size": 7,
        "Created": created,
    }


MINE = image("modelkiln/bare:1", "d1", created=1)
BASE = image("modelkiln/base:2", created=2)
LEFT = {**image(None, "d3", created=3, label=BUILD_LABEL), "RepoTags": ["<none>:<none>"]}
OTHERS = [
    image("debian:12"),
    image("mine/modelkiln:1"),
    image(None),
    # Made from one of ours, by somebody else.
    image("theirs:1", "d1"),
]


def test_ours_are_told_from_others_newest_first() -> None:
    found = list_images(make_engine(Api(images=[MINE, *OTHERS, LEFT, BASE])))
    assert [(one.name, one.kind, one.digest) for one in found] == [
        ("", Kind.LEFTOVER, "d3"),
        ("modelkiln/base:2", Kind.BASE, ""),
        ("modelkiln/bare:1", Kind.ENVIRONMENT, "d1"),
    ]


def test_podman_has_its_host_before_our_names() -> None:
    images = [image("localhost/modelkiln/base:2"), image("modelkiln/bare:1", "d1")]
    (found,) = list_images(make_engine(Api(images=images), kind="podman"))
    assert (found.name, found.kind) == ("localhost/modelkiln/base:2", Kind.BASE)


def test_an_engine_that_fails_is_told() -> None:
    with pytest.raises(EnvironmentFailure):
        list_images(make_engine(Api(images=docker.errors.DockerException("gone"))))


def prune(cache: Path, keep: set[str], remove: Any = None, **words: bool) -> tuple[list[str], Api]:
    api = Api(images=[MINE, LEFT, BASE], containers=[])
    images = Api(remove=remove, prune=None)
    gone = prune_images(make_engine(api, images), keep, cache=cache, **words)
    return [one.name for one in gone], images


def test_what_is_kept_stays_and_what_has_no_name_is_swept(tmp_path: Path) -> None:
    gone, images = prune(tmp_path, {"modelkiln/base:2"})
    assert gone == ["", "modelkiln/bare:1"]
    assert [given for given, _ in images.named("remove")] == [("modelkiln/bare:1",)]
    swept = {words["filters"]["label"] for _, words in images.named("prune")}
    assert {f"{LABEL}=d3", f"{BUILD_LABEL}=d3", f"{LABEL}=d1"} <= swept


def test_a_dry_run_removes_nothing(tmp_path: Path) -> None:
    gone, images = prune(tmp_path, set(), everything=True, dry_run=True)
    assert len(gone) == 3 and images.calls == []


def test_everything_forgets_what_is_on_record(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("d1.json", "d1.log", "other.json"):
        (tmp_path / "images" / name).write_text("{}")
    prune(tmp_path, {"modelkiln/bare:1"})
    assert len(list((tmp_path / "images").iterdir())) == 3
    prune(tmp_path, {"modelkiln/bare:1"}, everything=True)
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["other.json"]


def test_what_is_in_use_or_being_built_stays(tmp_path: Path) -> None:
    assert prune(tmp_path, {"modelkiln/base:2"}, remove=refusal(409))[0] == [""]
    with pytest.raises(EnvironmentFailure):
        prune(tmp_path, set(), remove=refusal(500))
    with hold(lock_of("d1", tmp_path)):
        assert prune(tmp_path, {"modelkiln/base:2"})[0] == [""]


def test_one_that_is_gone_meanwhile_counts_as_removed(tmp_path: Path) -> None:
    error = docker.errors.ImageNotFound("gone")
    gone, _ = prune(tmp_path, {"modelkiln/base:2"}, remove=error)
    assert gone == ["", "modelkiln/bare:1"]
