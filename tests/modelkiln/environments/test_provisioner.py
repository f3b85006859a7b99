"""Environments by name: which folder has them, and that their files are read once a command."""

from pathlib import Path

import pytest

from modelkiln.environments.provisioner import Provisioner
from modelkiln.errors import UsageError
from modelkiln.paths import REPOSITORY


def make_folder(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "requirements.txt").write_text("")
        (folder / name / "environment.toml").write_text("bytes = 1\nseed = []\n[variables]\n")
    return folder


def test_the_first_folder_that_has_it_wins(tmp_path: Path) -> None:
    folders = (make_folder(tmp_path / "added", "one"), make_folder(tmp_path / "own", "one", "two"))
    provisioner = Provisioner(cache=tmp_path, folders=folders)
    assert provisioner.environment("one").lock.parent.parent == folders[0]
    assert provisioner.environment("two").lock.parent.parent == folders[1]
    assert [one.name for one in provisioner.environments()] == ["one", "two"]
    with pytest.raises(UsageError, match="no environment 'three'"):
        provisioner.environment("three")


def test_files_are_read_once_a_command(tmp_path: Path) -> None:
    provisioner = Provisioner(cache=tmp_path, folders=(make_folder(tmp_path / "own", "one"),))
    before = provisioner.environment("one").identity()
    (tmp_path / "own" / "one" / "requirements.txt").write_text("# changed meanwhile\n")
    assert provisioner.environment("one").identity() == before
    other = Provisioner(cache=tmp_path, folders=provisioner.folders)
    assert other.environment("one").identity() != before


def test_the_repository_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELKILN_CATALOG", str(tmp_path))
    provisioner = Provisioner(cache=tmp_path)
    assert provisioner.folders == (tmp_path / "docker", REPOSITORY / "docker")
    assert {"export", "quantize", "rtx"} <= {one.name for one in provisioner.environments()}
