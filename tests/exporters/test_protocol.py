"""A step as it is read, and what is told where it lacks something."""

import json
from pathlib import Path

import pytest

from exporters.protocol import StageError, Step, as_sentence, read_step, write_json
from tests.exporters.shrunken import write_step


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    path = write_step(tmp_path / "s", "toy", ["toy"], {}, {})
    document = {**json.loads(path.read_text()), "protocol": 2}
    path.write_text(json.dumps(document))
    with pytest.raises(StageError, match="speaks protocol 2, not 1"):
        read_step(path)


def test_what_was_not_given_is_named(tmp_path: Path) -> None:
    step = read_step(write_step(tmp_path / "s", "toy", ["toy"], {"a": 1}, {}))
    assert isinstance(step, Step)
    for asked, words in ((step.input, "its input b"), (step.param, "its parameter b")):
        with pytest.raises(StageError, match=f"was not given {words}"):
            asked("b")
    with pytest.raises(StageError, match="names no module of a family"):
        step.provider()


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [2]})
    assert (tmp_path / "a.json").read_text().index('"a"') < 10
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"b": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [2], "b": 1}


def test_as_sentence_leaves_a_sentence_alone() -> None:
    assert as_sentence("its opset is 18, not 21") == "Its opset is 18, not 21."
    for text in ("It is so.", "Is it so?", "So!"):
        assert as_sentence(text) == text


def test_an_error_reads_as_one_text() -> None:
    error = StageError("It broke.", "It fell.", "Lift it.")
    assert str(error) == "It broke. It fell. Next: Lift it."
