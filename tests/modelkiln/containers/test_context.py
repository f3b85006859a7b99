"""What builders get: the context, the Dockerfiles, the builder itself. No engine is asked."""

import io
import os
import re
import tarfile
from pathlib import Path

import pytest

from modelkiln.containers.builders import CommandBuilder, find_builder
from modelkiln.containers.context import EPOCH, Context, make_context
from modelkiln.containers.engine import Engine
from modelkiln.containers.images import explain_build, image_name
from modelkiln.containers.progress import BuildProgress
from modelkiln.environments.base_images import PINS, BasePin, load_base
from modelkiln.environments.environment import Environment, environment
from modelkiln.environments.install import read_settings
from modelkiln.errors import EnvironmentFailure, OutOfSpace, PinError
from modelkiln.paths import REPOSITORY
from tests.modelkiln.toy_packages import make_environment, make_wheel

DOCKERFILES = sorted(
    [*REPOSITORY.glob("docker/*/Dockerfile"), *REPOSITORY.glob("tests/toy/docker/*/Dockerfile")]
)
BASE = BasePin(
    name="python",
    image="python",
    tag="3.11",
    digest=f"sha256:{'1' * 64}",
    interpreter="cpython-3.11.9-x86_64",
)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    for name in ("two", "one", "a" * 120):
        make_wheel(folder, name)
    (folder / "environment.json").write_text("{}")
    return folder


@pytest.fixture
def wanted(tmp_path: Path, wheels: Path) -> Environment:
    packages = {f"{name}==1.0": make_wheel(wheels, name) for name in ("one", "two")}
    return make_environment(tmp_path / "docker", packages, seed=("two",))


def pack(environment: Environment, wheels: Path) -> bytes:
    return b"".join(make_context(environment, wheels).blocks())


def test_the_context_holds_lock_seed_and_packages(wanted: Environment, wheels: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(pack(wanted, wheels))) as tar:
        assert tar.getnames() == [
            "Dockerfile",
            "requirements.txt",
            "seed.txt",
            "wheels",
            f"wheels/{'a' * 120}-1.0-py3-none-any.whl",
            "wheels/one-1.0-py3-none-any.whl",
            "wheels/two-1.0-py3-none-any.whl",
        ]
        for entry in tar:
            assert (entry.mtime, entry.uid, entry.gid, entry.uname) == (EPOCH, 0, 0, "")
            assert entry.mode == (0o644 if entry.isfile() else 0o755)
        read = tar.extractfile("wheels/one-1.0-py3-none-any.whl")
        assert read is not None
        assert read.read() == (wheels / "one-1.0-py3-none-any.whl").read_bytes()
        seed = tar.extractfile("seed.txt")
        assert seed is not None
        assert re.fullmatch(rb"two==1\.0 --hash=sha256:[0-9a-f]{64}\n", seed.read())


def test_the_context_depends_on_contents_alone(wanted: Environment, wheels: Path) -> None:
    before = pack(wanted, wheels)
    for path in [*wheels.iterdir(), wanted.lock]:
        os.utime(path, (1, 1))
        path.chmod(0o600)
    for path in sorted(wheels.iterdir(), reverse=True):
        # Another order in the folder.
        moved = path.with_name("moved")
        path.rename(moved)
        moved.rename(path)
    assert pack(wanted, wheels) == before
    with wanted.dockerfile.open("a") as file:
        file.write("# changed\n")
    assert pack(wanted, wheels) != before


def test_an_environment_without_packages_has_a_folder_to_copy(tmp_path: Path) -> None:
    empty = tmp_path / "wheels"
    empty.mkdir()
    wanted = make_environment(tmp_path / "docker", {})
    with tarfile.open(fileobj=io.BytesIO(pack(wanted, empty))) as tar:
        assert "wheels/none" in tar.getnames()


def test_a_file_that_grows_meanwhile_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    blocks = Context(files={"file": path}).blocks()
    next(blocks)
    with path.open("ab") as file:
        file.write(b"6")
    with pytest.raises(EnvironmentFailure, match="changed while"):
        list(blocks)


def test_a_lock_without_hashes_makes_no_context(wanted: Environment, wheels: Path) -> None:
    wanted.lock.write_text("one==1.0\n")
    with pytest.raises(PinError, match="does not pin"):
        make_context(wanted, wheels)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_dockerfiles_keep_to_what_every_builder_understands(path: Path) -> None:
    text = path.read_text()
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert "<<" not in code
    assert "--mount" not in code
    assert "--chmod" not in code
    assert "--link" not in code
    assert "RUN --" not in code
    assert not re.search(r"(?i)^#\s*(syntax|escape|check)\s*=", text, re.MULTILINE)
    assert not re.search(r"(?m)^(ADD|HEALTHCHECK|EXPOSE|VOLUME|ONBUILD)\b", code)
    assert re.search(r"(?m)^USER 65532:65532$", code)
    # The image gets its files in one layer whose folders are dated, too.
    assert code.count("COPY --from=build /out/ /\n") == 1


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_dockerfiles_stand_on_the_pinned_base(path: Path) -> None:
    found = environment(path.parent.name, path.parent.parent)
    pinned = load_base(found.base, {})
    assert PINS.is_file()
    text = path.read_text()
    assert re.findall(r"(?m)^ARG BASE_IMAGE=(.*)$", text) == [pinned.reference]
    assert set(re.findall(r"(?m)^FROM (\S+)", text)) == {"${BASE_IMAGE}"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_dockerfiles_set_the_variables_of_their_environment(path: Path) -> None:
    text = path.read_text()
    for name, value in read_settings(path.with_name("environment.toml")).variables.items():
        assert re.search(rf"(?m)^(?:ENV)? +{name}={value}\b", text), name
    assert f"SOURCE_DATE_EPOCH={EPOCH}" in text


def test_an_images_name_follows_from_its_inputs(wanted: Environment) -> None:
    before = image_name(wanted, BASE)
    assert re.fullmatch(r"modelkiln/locked:[0-9a-f]{16}", before)
    assert image_name(wanted, BASE) == before
    for path in (wanted.lock, wanted.dockerfile, wanted.settings):
        text = path.read_text()
        path.write_text(f"{text}# changed\n")
        assert image_name(wanted, BASE) != before
        path.write_text(text)
    wanted.selftest.write_text("changed")
    assert image_name(wanted, BASE) == before


def command(folder: Path, says: str, buildx: str = "") -> Path:
    """A docker command that says its version, and that of its buildx where it has it."""
    folder.mkdir()
    path = folder / "docker"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = buildx ] || {{ echo "{says}"; exit; }}\n'
        + (f'echo "{buildx}"\n' if buildx else "exit 1\n")
    )
    path.chmod(0o755)
    return path


def engine(kind: str = "docker") -> Engine:
    return Engine(
        client=None,  # type: ignore[arg-type]
        kind=kind,
        version="20.10",
        host="unix:///engine.sock",
        cpus=1,
        root=None,
        rootless=False,
        selinux=False,
    )


NEW, OLD = "Docker version 28.2.2, build e6534b4", "Docker version 20.10.24+dfsg1, build 297e128"
BUILDX = "github.com/docker/buildx v0.13.1 788433953af10f2a698f5c07611dddce2e08c7a0"


def test_every_docker_on_the_path_is_looked_at(tmp_path: Path) -> None:
    first = command(tmp_path / "first", NEW)
    second = command(tmp_path / "second", OLD)
    path = {"PATH": f"{first.parent}:/nowhere:{second.parent}"}
    found = find_builder(engine(), path)
    assert isinstance(found, CommandBuilder)
    assert found.command == (str(second), "build")
    assert found.engine.host == "unix:///engine.sock"
    third = command(tmp_path / "third", NEW, BUILDX)
    found = find_builder(engine(), {"PATH": f"{path['PATH']}:{third.parent}"})
    assert isinstance(found, CommandBuilder)
    assert found.command[:3] == (str(third), "buildx", "build")
    assert {"--builder=default", "--load", "--provenance=false"} <= set(found.command)
    assert "0.13" in found.name


def test_without_buildkit_the_engine_builds(tmp_path: Path) -> None:
    new = command(tmp_path / "new", NEW)
    podman = command(tmp_path / "podman", "podman version 4.3.1", "buildah 1.28.2")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "docker").write_text("no program")
    (tmp_path / "broken" / "docker").chmod(0o755)
    path = {"PATH": f"{new.parent}:{podman.parent}:{tmp_path / 'broken'}"}
    assert find_builder(engine(), path).name == "Docker's API"


def test_podman_builds_itself(tmp_path: Path) -> None:
    buildx = command(tmp_path / "buildx", NEW, BUILDX)
    assert find_builder(engine("podman"), {"PATH": str(buildx.parent)}).name == "Podman's API"


def test_a_full_disk_in_a_build_is_told_as_such(wanted: Environment, tmp_path: Path) -> None:
    said = "#7 ERROR: OSError: [Errno 28] No space left on device"
    error = explain_build(said, tmp_path / "log", wanted)
    assert isinstance(error, OutOfSpace)
    assert "image.prune" in error.next
    assert str(tmp_path / "log") in error.next


def test_another_failure_shows_the_last_lines(wanted: Environment, tmp_path: Path) -> None:
    error = explain_build("one\nthe last word", tmp_path / "log", wanted)
    assert isinstance(error, EnvironmentFailure)
    assert "the last word" in error.why
    assert str(tmp_path / "log") in error.next


def test_progress_is_told_from_either_builders_words() -> None:
    told: list[tuple[float | None, str]] = []
    progress = BuildProgress(lambda share, text: told.append((share, text)))
    for line in (
        "",
        "Step 3/5 : RUN true",
        "noise",
        "#7 [build 2/4] COPY . /context",
        "#7 12.07   Building wheel for sam2 (pyproject.toml): started",
        f"#8 [stage-1 2/2] RUN {'x' * 200}",
    ):
        progress.tell(line)
    assert told[0][0] is None
    assert told[1] == told[2] == (0.4, "RUN true")
    assert told[3][1] == "COPY . /context"
    assert told[4][1] == "Building wheel for sam2"
    assert len(told[5][1]) == 70
