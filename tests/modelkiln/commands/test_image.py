"""`invoke image.build`, `image.list` and `image.prune`, with an engine that is not there.

What a real engine makes of them is in tests/containers.
"""

import json
import time
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands.image import build_image, list_images, prune_images
from modelkiln.containers import images, owner, pruning
from modelkiln.containers.bases import base_name
from modelkiln.containers.images import Image, image_name
from modelkiln.containers.pruning import Kind, Listed
from modelkiln.environments.environment import Environment
from modelkiln.errors import EnvironmentFailure, UsageError

MakeKiln = Callable[..., Kiln]
OLD = Listed(
    name="modelkiln/old:1", kind=Kind.ENVIRONMENT, id="sha256:1", digest="1", bytes=2000, created=0
)
LEFT = Listed(name="", kind=Kind.LEFTOVER, id="sha256:2", digest="2", bytes=1, created=0)


class Engine(SimpleNamespace):
    """An engine of a kind."""

    def __str__(self) -> str:
        return "Docker 1.2.3"


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.delenv("MODELKILN_PINS", raising=False)
    made = Engine(kind="docker")
    monkeypatch.setattr(owner, "open_engine", lambda: made)
    return made


def test_the_image_of_one_environment_is_built_or_of_all(
    make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, bool]] = []

    def ensure(_: object, one: Environment, *__: object, rebuild: bool, **___: Any) -> Image:
        asked.append((one.name, rebuild))
        return Image(name=f"modelkiln/{one.name}:1", id="sha256:1", layers=("a",), bytes=2000)

    monkeypatch.setattr(images, "ensure_image", ensure)
    build_image(make_kiln(), "bare", rebuild=True)
    assert capsys.readouterr().out == "modelkiln/bare:1  2.0 kB  sha256:1\n"
    build_image(make_kiln(), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert asked == [("bare", True), *((one["name"][10:-2], False) for one in told)]
    assert {"bare", "small", "export", "quantize", "rtx"} <= {name for name, _ in asked}
    with pytest.raises(UsageError, match="no environment 'none'"):
        build_image(make_kiln(), "none")


def test_an_environment_without_a_dockerfile_is_told(make_kiln: MakeKiln, toy_copy: Any) -> None:
    (toy_copy / "docker" / "bare" / "Dockerfile").unlink()
    with pytest.raises(EnvironmentFailure, match="bare is not available as an image"):
        build_image(make_kiln(), "bare")


@pytest.mark.parametrize("kind", ["docker", "podman"])
def test_images_are_listed_with_whether_they_are_needed(
    make_kiln: MakeKiln,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    engine.kind = kind
    kiln = make_kiln()
    bare = kiln.provisioner.environment("bare")
    base = kiln.provisioner.base(bare)
    host = "localhost/" if kind == "podman" else ""
    needed = [f"{host}{name}" for name in (image_name(bare, base), base_name(base))]
    mine = [
        Listed(name=name, kind=Kind.BASE, id="sha256:3", digest="", bytes=1, created=0)
        for name in needed
    ]
    monkeypatch.setattr(pruning, "list_images", lambda _: [OLD, LEFT, *mine])
    list_images(kiln, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [one["needed"] for one in told] == [False, False, True, True]
    monkeypatch.setattr(time, "time", lambda: 86400.0 * 3)
    list_images(kiln)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["modelkiln/old:1", "environment", "2.0", "kB", "3", "days", "ago",
                                "no"]  # fmt: skip
    assert lines[2].startswith("2  ") and lines[3].endswith("yes")


def test_an_engine_without_our_images_is_told(
    make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pruning, "list_images", lambda _: [])
    list_images(make_kiln())
    assert capsys.readouterr().out == "modelkiln made no image on Docker 1.2.3\n"


def test_what_goes_is_told(
    make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[Collection[str]] = []

    def prune(_: object, keep: Collection[str], **options: Any) -> list[Listed]:
        kept.append(keep)
        return [OLD, LEFT] if options["everything"] else []

    monkeypatch.setattr(pruning, "prune_images", prune)
    prune_images(make_kiln())
    assert capsys.readouterr().out == "nothing to remove\n"
    assert any(name.startswith("modelkiln/bare:") for name in kept[0])
    prune_images(make_kiln(), everything=True, dry_run=True)
    assert capsys.readouterr().out.splitlines() == [
        "would remove modelkiln/old:1",
        "would remove what a build left: sha256:2",
    ]
    prune_images(make_kiln(), everything=True, as_json=True)
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["modelkiln/old:1", ""]
