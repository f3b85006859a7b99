"""Sides of a bench as scripts, with a Python that says what it was started with."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.export import Contender as Exporter
from bench.process import Command
from bench.scripts import Contender, Scripts, find_graph
from modelkiln.errors import StageFailure, VerificationFailure

# It tells its arguments, and what lies beside it as its last line.
PYTHON = f"""#!{sys.executable}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
with open(here / 'calls', 'a') as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
print('noise before the result')
print((here / 'says').read_text())
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    workspace = tmp_path / "work"
    workspace.mkdir()
    return Scripts(python=python, workspace=workspace, on_progress=lambda _: None)


def say(scripts: Scripts, **told: Any) -> None:
    scripts.python.with_name("says").write_text(json.dumps(told))


def calls(scripts: Scripts) -> list[list[str]]:
    lines = scripts.python.with_name("calls").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_what_a_script_says_last_counts(scripts: Scripts) -> None:
    say(scripts, answer=42)
    assert scripts.tell("nothing", "a", "--b") == {"answer": 42}
    assert calls(scripts) == [["-m", "bench.sides.nothing", "a", "--b"]]
    assert "noise" in (scripts.workspace / "nothing.log").read_text()


def test_all_run_in_every_round_in_an_order_that_turns(scripts: Scripts) -> None:
    told: list[str] = []
    say(scripts, runtime="r", run_seconds=1.5, peak_bytes=7, load_seconds=None)
    sides = [Contender(name=name, arguments=(name[0],)) for name in ("one side", "two", "3")]
    again = replace(scripts, on_progress=told.append)
    again.measure(sides, "latency", "--threads=2", rounds=3)
    assert [words[2] for words in calls(scripts)] == [*"ot3", *"t3o", *"3ot"]
    assert calls(scripts)[0][3:] == [str(scripts.workspace / "one-side.npy"), "--threads=2"]
    assert told[:2] == ["round 1/3: one side", "    1.50 s"]
    figures = sides[0].side()
    assert (figures.run_seconds, figures.peak_bytes) == ([1.5] * 3, [7] * 3)
    assert (figures.load_seconds, figures.file_bytes) == ([], None)


def test_all_files_of_a_graph_count(tmp_path: Path) -> None:
    for name, size in (("a.onnx", 10), ("a.onnx.data", 5)):
        (tmp_path / name).write_bytes(b"x" * size)
    told = {"runtime": "r", "run_seconds": 1.0, "peak_bytes": 1, "load_seconds": 0.5}
    files = sorted(tmp_path.iterdir())
    side = Contender(name="a", arguments=(), files=files, told=[told]).side()
    assert (side.file_bytes, side.load_seconds) == (15, [0.5])


@pytest.mark.parametrize("far", [1.1e-5, float("nan")])
def test_sides_that_are_apart_are_named(scripts: Scripts, far: float) -> None:
    wanted, *graphs = (Contender(name=name, arguments=()) for name in ("right", "a", "b"))
    say(scripts, differences=[1e-5, 0.0])
    assert scripts.compare(wanted, graphs) == {"a": 1e-5, "b": 0.0}
    say(scripts, differences=[0.0, far])
    with pytest.raises(VerificationFailure, match="not compute the same: b"):
        scripts.compare(wanted, graphs)


def test_a_graph_that_is_not_there_is_named(tmp_path: Path) -> None:
    side = Exporter(
        name="theirs",
        prepare=lambda folder: Command(argv=("true",), cwd=folder),
        graphs=lambda folder: {"encoder": folder / "encoder.onnx"},
    )
    for name in ("encoder", "decoder"):
        with pytest.raises(StageFailure, match=f"theirs left no {name}"):
            find_graph(side, tmp_path, name)
    (tmp_path / "encoder.onnx").touch()
    assert find_graph(side, tmp_path, "encoder") == tmp_path / "encoder.onnx"
