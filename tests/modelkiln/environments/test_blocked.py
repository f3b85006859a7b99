"""Packages that an index blocks or has not got: as uv says it, as pip does, and for real."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelkiln.containers.wheelhouse import fetch
from modelkiln.environments.blocked import find_blocked
from modelkiln.environments.cache import ensure
from modelkiln.environments.environment import Environment
from modelkiln.environments.lockfile import Locked
from modelkiln.errors import EnvironmentFailure
from tests.modelkiln.misbehaving import Told
from tests.modelkiln.toy_packages import Index, make_environment, make_wheel

LOCKED = (Locked(name="some-libs", version="1.7", text=""),)

REFUSED = "answers 403 Forbidden"
ABSENT = "has not got it"
URL = "http://index.example/some_libs-1.7-py3-none-any.whl"


def blocked(said: str) -> EnvironmentFailure | None:
    return find_blocked(said, LOCKED, index="UV_INDEX", log="The log.")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            "error: No solution found when resolving dependencies\n  cause: Because some-libs was "
            "not found in the package\n  registry and you require some-libs==1.7, we can conclude",
            ABSENT,
        ),
        (
            "cause: Because some-libs was not found in the package registry and you require\n\n"
            "hint: An index (http://index.example) returned a 403 Forbidden error. Check that",
            REFUSED,
        ),
        ("cause: Because there is no version of some-libs==1.7 and you require it", ABSENT),
        (
            f"error: Failed to download `some-libs==1.7`\n  cause: Failed to fetch: {URL}\n"
            f"  cause: HTTP status client error (403 Forbidden) for url ({URL})",
            REFUSED,
        ),
        ("ERROR: No matching distribution found for some_libs==1.7", ABSENT),
        (
            f"ERROR: Could not install requirement some-libs==1.7 from {URL} because of HTTP error "
            f"403 Client Error: Forbidden for url: {URL} for URL {URL}",
            REFUSED,
        ),
    ],
)
def test_the_package_is_named_with_what_the_index_answers(said: str, why: str) -> None:
    error = blocked(said)
    assert error is not None and error.exit_code == 4
    assert error.what == "The package index does not give some-libs 1.7."
    assert why in error.why and "company's mirror" in error.why and "NVIDIA" in error.why
    assert "UV_INDEX" in error.next and "MODELKILN_WHEELS" in error.next
    assert error.next.endswith("The log.")


@pytest.mark.parametrize(
    "said",
    [
        "error: Failed to build `some-libs==1.7`",
        f"error: Failed to download `some-libs==1.7`\n cause: Failed to fetch: {URL} dns error",
        f"error: Failed to download `some-libs==1.7`\n cause: HTTP status server error "
        f"(503 Service Unavailable) for url ({URL})",
        "ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 403 Forbidden')",
        "",
    ],
)
def test_another_failure_is_not_taken_for_it(said: str) -> None:
    assert blocked(said) is None


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    make_wheel(folder, "withheld")
    make_wheel(folder, "plain")
    return folder


@pytest.fixture
def locked(tmp_path: Path, packages: Path) -> Environment:
    names = ("plain", "withheld")
    files = {f"{one}==1.0": packages / f"{one}-1.0-py3-none-any.whl" for one in names}
    return make_environment(tmp_path / "docker", files, selftest="import plain, withheld\n")


@pytest.fixture
def mirror(packages: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Index(packages, "secret")
    monkeypatch.setenv("UV_DEFAULT_INDEX", made.url)
    monkeypatch.setenv("PIP_INDEX_URL", made.url)
    with made.serving():
        yield made


def install(locked: Environment, cache: Path) -> Path:
    return ensure(locked, cache=cache, on_progress=Told())


def gather(locked: Environment, cache: Path) -> Path:
    return fetch(locked, cache=cache, offline=False, on_progress=Told())


@pytest.mark.parametrize(("way", "index"), [(install, "UV_INDEX"), (gather, "PIP_INDEX_URL")])
@pytest.mark.parametrize(
    ("end", "status", "why"),
    [
        ("/withheld/", 404, ABSENT),
        ("/withheld-1.0-py3-none-any.whl", 403, REFUSED),
    ],
)
def test_uv_and_pip_say_so_and_its_file_in_a_folder_helps(
    mirror: Index,
    locked: Environment,
    packages: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[Environment, Path], Path],
    index: str,
    end: str,
    status: int,
    why: str,
) -> None:
    """The words are those of the real programs, and what the error tells to do is enough."""
    mirror.blocked = {end: status}
    with pytest.raises(EnvironmentFailure) as caught:
        way(locked, tmp_path / "cache")
    assert caught.value.what == "The package index does not give withheld 1.0."
    assert why in caught.value.why
    assert f"let {index} name" in caught.value.next
    assert "secret" not in str(caught.value)
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(packages / "withheld-1.0-py3-none-any.whl", folder)
    monkeypatch.setenv("MODELKILN_WHEELS", str(folder))
    assert way(locked, tmp_path / "cache").exists()
