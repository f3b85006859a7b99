"""modelkiln.paths: which variable decides what."""

from pathlib import Path

import pytest

from modelkiln.errors import EnvironmentFailure
from modelkiln.paths import REPOSITORY, artifacts_root, cache_root, catalog_folders


def test_repository_holds_this_file() -> None:
    assert Path(__file__).is_relative_to(REPOSITORY)
    assert (REPOSITORY / "Makefile").is_file()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MODELKILN_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"MODELKILN_CACHE": "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/modelkiln"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/c"}, "/c/.cache/modelkiln"),
        ({"HOME": "/c"}, "/c/.cache/modelkiln"),
        ({"MODELKILN_CACHE": "/a/../d"}, "/d"),
    ],
)
def test_cache(variables: dict[str, str], expected: str) -> None:
    assert cache_root(variables) == Path(expected)


def test_cache_without_a_home() -> None:
    with pytest.raises(EnvironmentFailure, match="No folder for the cache") as caught:
        cache_root({})
    assert "MODELKILN_CACHE" in caught.value.next


def test_relative_names_count_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cache_root({"MODELKILN_CACHE": "mine"}) == tmp_path / "mine"
    assert artifacts_root({"MODELKILN_ARTIFACTS": "out"}) == tmp_path / "out"


def test_artifacts_lie_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert artifacts_root({}) == REPOSITORY / "artifacts"


def test_catalog_folders_add_to_the_repositorys() -> None:
    assert catalog_folders({}) == (REPOSITORY / "catalog",)
    folders = catalog_folders({"MODELKILN_CATALOG": "/a::/b"})
    assert folders == (REPOSITORY / "catalog", Path("/a"), Path("/b"))


def test_process_variables_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELKILN_CACHE", "/given")
    assert cache_root() == Path("/given")
