"""modelkiln.environments.uv: reading locks, and the variables that uv is given."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkiln.environments.lockfile import normalize, read_lock
from modelkiln.environments.uv import installer_variables
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


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_only_named_variables_pass(given_variables: dict[str, str]) -> None:
    passed = installer_variables(given_variables | {"UV_X": "1", "https_proxy": "2", "HOMER": "3"})
    assert passed["UV_X"] == "1"
    assert passed["https_proxy"] == "2"
    assert "HOMER" not in passed


@given(st.text(alphabet="aB-_.", min_size=1))
def test_normalized_names_stay(name: str) -> None:
    assert normalize(normalize(name)) == normalize(name)
