"""What builds images: which builder is found, and what each is told; real builds are in
tests/containers."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from modelkiln.containers import builders
from modelkiln.containers.builders import (
    ApiBuilder,
    BuildFailed,
    CommandBuilder,
    Request,
    find_builder,
)
from modelkiln.containers.context import Context
from modelkiln.util.process import CommandFailed
from tests.modelkiln.containers.fake_docker import Api, make_engine

REQUEST = Request(
    context=cast(Context, SimpleNamespace(blocks=lambda: iter([b"context"]))),
    base="modelkiln/base:1",
    build="b1",
    labels={"one": "1"},
)


def make_docker(folder: Path, buildx: str = "", version: str = "") -> Path:
    """A docker command that says these versions."""
    folder.mkdir(parents=True)
    path = folder / "docker"
    path.write_text(
        f'#!/bin/sh\ncase "$1" in\nbuildx) test -n "{buildx}" && echo "{buildx}";;\n'
        f'--version) echo "{version}";;\nesac\n'
    )
    path.chmod(0o755)
    return folder


BUILDX = "github.com/docker/buildx v{} abc"


@pytest.mark.parametrize(
    ("buildx", "version", "name", "flag"),
    [
        (BUILDX.format("0.12.1"), "", "BuildKit (buildx 0.12)", True),
        (BUILDX.format("0.9.0"), "", "BuildKit (buildx 0.9)", False),
        ("", "Docker version 20.10.5, build 1", "BuildKit (built-in client of docker 20)", False),
        ("", "Docker version 24.0.7, build 1", "Docker's API", False),
        ("", "podman version 4.3.1", "Docker's API", False),
    ],
)
def test_buildkit_is_found_by_what_the_command_says(
    tmp_path: Path, buildx: str, version: str, name: str, flag: bool
) -> None:
    path = make_docker(tmp_path / "bin", buildx, version)
    found = find_builder(make_engine(), {"PATH": str(path)})
    assert found.name == name
    # A provenance has times in it.
    assert isinstance(found, CommandBuilder) is name.startswith("BuildKit")
    assert ("--provenance=false" in getattr(found, "command", ())) is flag


def test_buildx_goes_before_a_built_in_client_that_comes_first(tmp_path: Path) -> None:
    old = make_docker(tmp_path / "a", version="Docker version 20.10.5, build 1")
    new = make_docker(tmp_path / "b", buildx=BUILDX.format("0.12.1"))
    found = find_builder(make_engine(), {"PATH": f"{old}:/nowhere:{new}"})
    assert isinstance(found, CommandBuilder)
    assert found.command[:2] == (str(new / "docker"), "buildx")


def test_podman_is_asked_through_its_api(tmp_path: Path) -> None:
    path = make_docker(tmp_path / "bin", BUILDX.format("0.12.1"))
    found = find_builder(make_engine(kind="podman"), {"PATH": str(path)})
    assert found.name == "Podman's API"


@pytest.mark.parametrize("anew", [False, True])
def test_a_command_is_given_the_context_and_nothing_of_the_user_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    seen: dict[str, Any] = {}

    def follow(command: list[str], variables: dict[str, str], folder: Path,
               given: Iterator[bytes]) -> Iterator[str]:  # fmt: skip
        seen.update(command=command, variables=variables, given=b"".join(given))
        (folder / "id").write_text("sha256:1\n")
        yield "building"

    monkeypatch.setattr(builders, "follow", follow)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy")
    monkeypatch.setenv("AWS_SECRET", "secret")
    engine = make_engine(Api(df={}))
    builder = CommandBuilder(name="BuildKit", command=("docker", "build"), engine=engine)
    told: list[str] = []
    request = Request(**{**vars(REQUEST), "anew": anew})
    assert builder.build(request, told.append) == "sha256:1"
    command = seen["command"]
    assert command[:2] == ["docker", "build"] and command[-1] == "-"
    assert {"--network=none", "--build-arg=BASE_IMAGE=modelkiln/base:1", "--label=one=1"} <= {
        *command
    }
    assert {"--build-arg=HTTPS_PROXY=", "--build-arg=https_proxy="} <= {*command}
    assert ("--no-cache" in command) is anew
    assert "secret" not in str(seen) and seen["given"] == b"context"
    assert seen["variables"]["DOCKER_HOST"] == "unix:///s"
    assert told == ["building"]


def test_a_command_that_fails_is_a_failed_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def follow(*_: object) -> Iterator[str]:
        yield "ERROR"
        raise CommandFailed

    monkeypatch.setattr(builders, "follow", follow)
    builder = CommandBuilder(name="b", command=("docker",), engine=make_engine(Api(df={})))
    with pytest.raises(BuildFailed):
        builder.build(REQUEST, lambda _: None)


@pytest.mark.parametrize(("kind", "network"), [("docker", "none"), ("podman", "NetworkDisabled")])
def test_an_api_s_words_and_its_image_are_taken(kind: str, network: str) -> None:
    news = [
        {"stream": "\x1b[1mStep 1/1 : FROM a\x1b[0m\n \n"},
        {"status": "waiting"},
        {"aux": {"ID": "sha256:1"}} if kind == "docker" else {
            "stream": "Successfully built 0123456789ab\n"},
    ]  # fmt: skip
    api = Api(build=lambda **_: (one for one in news))
    told: list[str] = []
    found = ApiBuilder(engine=make_engine(api, kind=kind)).build(REQUEST, told.append)
    assert found == ("sha256:1" if kind == "docker" else "0123456789ab")
    assert told[:2] == ["Step 1/1 : FROM a", "waiting"]
    ((_, words),) = api.named("build")
    assert (words["network_mode"], words["use_config_proxy"]) == (network, False)
    assert words["buildargs"] == {"BASE_IMAGE": "modelkiln/base:1", "IMAGE": "b1"}


@pytest.mark.parametrize("news", [[{"error": "it broke"}], [{"stream": "no id"}], []])
def test_an_api_that_gives_no_image_is_a_failed_build(news: list[dict[str, str]]) -> None:
    told: list[str] = []
    builder = ApiBuilder(engine=make_engine(Api(build=lambda **_: iter(news))))
    with pytest.raises(BuildFailed):
        builder.build(REQUEST, told.append)
    assert told == [text for one in news for text in one.values()]
