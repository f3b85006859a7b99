"""The remembered answer of a build with nothing to do: it holds only while nothing has changed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building import unchanged
from modelkiln.building.kiln import Kiln
from modelkiln.commands.build import build_targets
from modelkiln.store.store import Store

TARGET = "toy_a/words/toy-text"
VALUES = {"targets": TARGET}


@pytest.fixture
def question(
    make_kiln: Callable[..., Kiln], built: Path, toy_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A build that has just found everything in place."""
    monkeypatch.setattr(unchanged, "REST_NS", 0)
    asked = unchanged.ask("build", VALUES)
    kiln = make_kiln()
    kiln.question = asked
    build_targets(kiln, TARGET)
    return asked


def test_the_answer_is_that_of_the_build(question: str) -> None:
    assert unchanged.recall(question) == "toy_a+random0/words/toy-text  (up to date)"


def test_a_build_that_wrote_something_is_not_remembered(
    make_kiln: Callable[..., Kiln], toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "REST_NS", 0)
    kiln = make_kiln()
    kiln.question = unchanged.ask("build", VALUES)
    build_targets(kiln, TARGET)
    assert unchanged.recall(kiln.question) is None


def test_files_have_to_rest_first(
    make_kiln: Callable[..., Kiln], built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "REST_NS", 3600 * 10**9)
    asked = unchanged.ask("build", VALUES)
    kiln = make_kiln()
    kiln.question = asked
    build_targets(kiln, TARGET)
    assert unchanged.recall(asked) is None


def rewrite(path: Path) -> None:
    """Write the same bytes again, as an editor does."""
    text = path.read_bytes()
    path.unlink()
    path.write_bytes(text)


@pytest.mark.parametrize(
    "pattern",
    [
        "out/*/words/toy-text/words.txt",
        "out/*/words/toy-text/manifest.json",
        "records/??/*.json",
        "cas/??/*",
    ],
)
@pytest.mark.parametrize("change", [rewrite, Path.unlink])
def test_a_changed_artifact_is_looked_at(
    question: str, toy: Path, pattern: str, change: Callable[[Path], None]
) -> None:
    for path in sorted(toy.glob(pattern))[:1]:
        change(path)
    assert unchanged.recall(question) is None


@pytest.mark.parametrize(
    "name", ["exporters/stages/export.py", "models/toy.toml", "pictures/toy.txt"]
)
def test_an_edited_source_is_looked_at(question: str, toy_copy: Path, name: str) -> None:
    path = toy_copy / name
    found = path.stat()
    path.write_bytes(path.read_bytes().swapcase())
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert unchanged.recall(question) is None


def test_a_new_file_in_a_room_is_looked_at(question: str, toy_copy: Path) -> None:
    (toy_copy / "models" / "more.toml").write_text("")
    assert unchanged.recall(question) is None


@pytest.mark.parametrize("name", unchanged.VARIABLES)
def test_another_variable_is_another_question(
    question: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/elsewhere")
    assert unchanged.ask("build", VALUES) != question


def test_other_arguments_are_another_question(question: str) -> None:
    assert unchanged.ask("build", {**VALUES, "weights": "random:1"}) != question
    assert unchanged.ask("build_all", VALUES) != question


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"question": 1}', b"\xff"])
def test_a_damaged_note_is_no_answer(question: str, toy: Path, text: bytes) -> None:
    (note,) = (toy / "cache" / "unchanged").iterdir()
    note.write_bytes(text)
    assert unchanged.recall(question) is None


def test_what_a_remembered_build_would_say_is_true(question: str, toy: Path) -> None:
    assert Store(toy).verify() == []
