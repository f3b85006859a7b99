"""Packages that the user has as files: which are taken from there, and that hashes still count."""

from pathlib import Path

import pytest

from modelkiln.containers.wheelhouse import fetch
from modelkiln.environments.cache import ensure
from modelkiln.environments.lockfile import Locked
from modelkiln.environments.wheels import split
from modelkiln.errors import EnvironmentFailure, PinError
from tests.modelkiln.misbehaving import Told
from tests.modelkiln.toy_packages import make_environment, make_wheel

FILES = (
    "one-1.0-py3-none-any.whl",
    "Two_Words-2.0-cp311-cp311-manylinux_2_28_x86_64.whl",
    "from-source-3.0.tar.gz",
    "other-9.0-py3-none-any.whl",
    "notes.txt",
)


def locked(*names: str) -> list[Locked]:
    pairs = (name.split("==") for name in names)
    return [Locked(name=name, version=version, text="") for name, version in pairs]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    monkeypatch.setenv("MODELKILN_WHEELS", str(made))
    return made


def test_what_lies_in_the_folder_is_taken_from_there_and_the_rest_is_not(folder: Path) -> None:
    for name in FILES:
        (folder / name).touch()
    there = locked("one==1.0", "two-words==2.0", "from-source==3.0")
    absent = locked("other==1.0", "more==1.0")
    options = ["--no-index", "--find-links", str(folder)]
    assert split([absent[0], *there, absent[1]]) == [(there, options), (absent, [])]
    assert split(there) == [(there, options)]
    assert split(absent) == [(absent, [])]
    assert split([]) == []


def test_without_a_folder_all_is_asked_of_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELKILN_WHEELS", raising=False)
    assert split(locked("one==1.0")) == [(locked("one==1.0"), [])]


def test_a_folder_that_is_not_there_is_told(folder: Path) -> None:
    folder.rmdir()
    with pytest.raises(EnvironmentFailure, match=r"MODELKILN_WHEELS names .*cannot be read"):
        split(locked("one==1.0"))


def test_a_file_has_to_be_the_one_of_the_lock(folder: Path, tmp_path: Path) -> None:
    """For uv and for pip, neither of which is told of an index that could serve it."""
    good = make_wheel(tmp_path / "good", "one")
    wanted = make_environment(tmp_path / "docker", {"one==1.0": good}, selftest="import one\n")
    make_wheel(folder, "one", "EVIL = 1\n")
    with pytest.raises(PinError, match="not the one that the lock names"):
        ensure(wanted, cache=tmp_path / "cache", on_progress=Told())
    with pytest.raises(PinError, match="not the one that the lock names"):
        fetch(wanted, cache=tmp_path / "cache", offline=False, on_progress=Told())
