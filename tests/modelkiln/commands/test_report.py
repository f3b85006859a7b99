"""`invoke report`: the page of a built target."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands.report import write_target_report
from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke


def test_the_page_goes_where_it_is_wanted(invoke: Invoke, built: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = invoke("report", TARGET, *RANDOM, "--out", str(page))
    assert (done.returncode, done.stdout) == (0, f"report  {page}\n"), done.stderr
    text = page.read_text()
    assert "toy_a+random0/words/toy-text" in text and "means nothing" in text
    done = invoke("report", TARGET, *RANDOM, "--out", str(page), "--json")
    assert json.loads(done.stdout) == {"report": str(page)}


def test_a_folder_that_is_not_there_is_told(invoke: Invoke, built: Path, tmp_path: Path) -> None:
    done = invoke("report", TARGET, *RANDOM, "--out", str(tmp_path / "none" / "page.html"))
    assert done.returncode == 2
    assert f"There is no folder {tmp_path / 'none'}" in done.stderr
    assert not (tmp_path / "none").exists()


def test_without_a_name_the_page_is_called_after_the_target(
    built: Path, make_kiln: Callable[..., Kiln], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_target_report(make_kiln(), TARGET)
    assert (tmp_path / "toy_a+random0-words-toy-text.html").is_file()
