"""Locks: exact versions with hashes, and nothing else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkiln.environments.lockfile import compare_versions, normalize, parse_versions, read_lock
from modelkiln.errors import EnvironmentFailure, PinError
from modelkiln.paths import REPOSITORY

ONE, TWO = f"--hash=sha256:{'1' * 64}", f"--hash=sha256:{'2' * 64}"


def lock(folder: Path, text: str) -> Path:
    path = folder / "requirements.txt"
    path.write_text(text)
    return path


def test_lock_is_read_with_its_hashes(tmp_path: Path) -> None:
    text = f"# made by hand\nA.b_C==1.0 \\\n    {ONE} \\\n    {TWO}\n\nd==2.0.post1 {ONE}\n"
    first, second = read_lock(lock(tmp_path, text))
    assert (first.name, first.version) == ("a-b-c", "1.0")
    assert ONE in first.text
    assert TWO in first.text
    assert (second.name, second.version) == ("d", "2.0.post1")


@pytest.mark.parametrize(
    "line",
    [
        "a==1.0",
        f"a>=1.0 {ONE}",
        f"a @ file:///a.whl {ONE}",
        "--index-url https://index.example",
        f"a==1.0 {ONE[:-1]}",
        f"a==1.0 {ONE}0",
        f"a==1.0 {ONE.replace('sha256', 'md5')}",
    ],
)
def test_lock_with_a_loose_line_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(PinError, match="does not pin") as caught:
        read_lock(lock(tmp_path, f"good==1.0 {TWO}\n{line}\n"))
    assert caught.value.exit_code == 3


def test_missing_lock(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="cannot be read"):
        read_lock(tmp_path / "requirements.txt")


def test_every_lock_of_the_repository_is_whole_and_names_no_index() -> None:
    found = [
        *REPOSITORY.glob("docker/*/requirements.txt"),
        *REPOSITORY.glob("requirements/*.txt"),
        *REPOSITORY.glob("bench/*.txt"),
        REPOSITORY / "tests" / "exporters" / "requirements.txt",
    ]
    assert len(found) >= 4
    for path in found:
        assert read_lock(path)
        assert "://" not in path.read_text()


def test_the_dev_lock_is_a_superset_of_the_host_lock() -> None:
    host, dev = (
        {(one.name, one.text) for one in read_lock(REPOSITORY / "requirements" / name)}
        for name in ("host.txt", "dev.txt")
    )
    assert host < dev


@given(st.text(alphabet="aB-_.", min_size=1))
def test_normalized_names_stay(name: str) -> None:
    assert normalize(normalize(name)) == normalize(name)


def test_what_was_installed_is_compared_by_normalized_names(tmp_path: Path) -> None:
    path = lock(tmp_path, f"A.b==1.0 {ONE}\nc==2.0 {TWO}\n")
    said = '{"a_B": "1.0", "c": "2.0"}'
    assert parse_versions(said) == {"a-b": "1.0", "c": "2.0"}
    compare_versions(parse_versions(said), path)
    with pytest.raises(PinError, match="not what") as caught:
        compare_versions({"a-b": "1.1", "d": "1"}, path)
    assert caught.value.why.endswith(": a-b 1.0, a-b 1.1, c 2.0, d 1.")
