"""Parameters as flags of the command line."""

from pathlib import Path

import pytest

from modelkiln.catalog.flags import is_flag, read_flags
from modelkiln.catalog.parameter_tables import read_parameters
from modelkiln.errors import UsageError
from tests.modelkiln.catalog.parameter_case import FILE, TABLES


@pytest.mark.parametrize("name", ["my-side", "class", "2d", ""])
def test_a_name_that_can_be_no_flag_is_told_and_breaks_no_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="no parameter can be called"):
        read_parameters({name: TABLES["opset"]}, FILE)
    (tmp_path / "contracts").mkdir()
    text = f'[parameters."{name}"]\nhelp = "a"\n[parameters.mine]\nhelp = "what it is"\n'
    (tmp_path / "contracts" / "a.toml").write_text(text)
    (tmp_path / "contracts" / "b.toml").write_text("[broken")
    monkeypatch.setenv("MODELKILN_CATALOG", str(tmp_path))
    flags = read_flags()
    assert flags["mine"] == "what it is" and name not in flags
    assert set(flags) > {"mine", "opset", "simplifier", "size", "calib_method", "layout"}
    assert all(flags.values())


def test_the_last_file_that_says_it_explains_a_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room, text in (("contracts", "of contracts"), ("formats", "of formats")):
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.toml").write_text(f'[parameters.mine]\nhelp = "{text}"\n')
    # One that says nothing leaves what was said.
    (tmp_path / "formats" / "b.toml").write_text("[parameters.mine]\n[parameters.other]\n")
    monkeypatch.setenv("MODELKILN_CATALOG", str(tmp_path))
    flags = read_flags()
    assert (flags["mine"], flags["other"]) == ("of formats", "")


@pytest.mark.parametrize(
    "text", ["parameters = 3\n", "[parameters]\nmine = 3\n", "\udcff", "[broken"]
)
def test_a_broken_file_breaks_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    before = read_flags()
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "a.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    monkeypatch.setenv("MODELKILN_CATALOG", str(tmp_path))
    assert read_flags() == before


@pytest.mark.parametrize(
    ("name", "good"), [("calib_size", True), ("class", False), ("a-b", False), ("1a", False)]
)
def test_a_flag_is_called_as_an_argument_of_python(name: str, good: bool) -> None:
    assert is_flag(name) is good
