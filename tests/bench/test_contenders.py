"""The sides of benches, and the weights that they start from, with the toy family."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import contenders
from bench.contenders import get_checkpoint, ingest_weights, our_side, our_weights, their_side
from bench.filled import fill_store
from modelkiln.building.kiln import Kiln
from modelkiln.building.options import Options

MakeKiln = Callable[..., Kiln]
TARGET = "toy_a/words/toy-text"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file of weights of a user's own."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "own.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    return path


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Stands for the export environment: writes weights as a checkpoint."""
    path = tmp_path / "python"
    path.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        "pathlib.Path(sys.argv[3]).write_bytes(pathlib.Path(sys.argv[2]).read_bytes() + b'!')\n"
    )
    path.chmod(0o755)
    return path


def test_our_side_is_what_a_user_types_in_an_empty_store(tmp_path: Path) -> None:
    side = our_side(TARGET, tmp_path / "a.pt")
    prepared = side.prepare(tmp_path)
    assert Path(prepared.argv[0]).name == "invoke"
    flags = [f"--weights={tmp_path / 'a.pt'}", "--trust", "--runner=local"]
    assert [*prepared.argv[1:]] == ["build", TARGET, *flags, "--until=convert"]
    assert prepared.environment == {"MODELKILN_ARTIFACTS": str(tmp_path / "artifacts")}
    assert side.verify is not None
    assert side.verify(tmp_path).argv == prepared.argv[:-1]


def test_our_graphs_and_weights_are_found_in_the_store(
    toy: Path, tmp_path: Path, checkpoint: Path
) -> None:
    kiln = Kiln(Options(weights=str(checkpoint), trust=True), artifacts=tmp_path / "artifacts")
    fill_store(kiln, kiln.targets(TARGET))
    side = our_side(TARGET, checkpoint)
    for _ in range(2):
        graphs = side.graphs(tmp_path)
        assert list(graphs) == ["words"] and graphs["words"].name == "words.txt"
        assert graphs["words"].read_text().endswith("/words/convert/words.txt\n")
    weights = our_weights(tmp_path, TARGET, checkpoint)
    assert weights.read_text().endswith("/ingest/weights.safetensors\n")


def test_their_side_is_exported_with_what_was_installed(tmp_path: Path) -> None:
    side = their_side(
        "sam2.1_hiera_tiny", tmp_path / "a.pt", python=tmp_path / "python", tools=tmp_path / "tools"
    )
    command = side.prepare(tmp_path)
    assert command.argv[0] == str(tmp_path / "python")
    assert f"--checkpoint={tmp_path / 'a.pt'}" in command.argv
    assert command.environment["PYTHONPATH"] == str(tmp_path / "tools")
    assert side.verify is None


def test_the_official_checkpoint_is_taken_where_it_has_been_fetched(
    make_kiln: MakeKiln, tmp_path: Path, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = tmp_path / "toy_a.pt"
    monkeypatch.setattr(contenders, "find_cached", lambda *_: fetched)
    kiln = make_kiln(weights="official")
    assert get_checkpoint(kiln, TARGET, tmp_path / "out.pt", python=python) == fetched
    assert not (tmp_path / "out.pt").exists()


def test_random_weights_stand_in_and_are_said(
    make_kiln: MakeKiln, tmp_path: Path, python: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = get_checkpoint(make_kiln(weights="official"), TARGET, tmp_path / "out.pt", python=python)
    assert made.read_bytes() == b"seed 0!"
    assert "both sides start from random weights" in capsys.readouterr().err


def test_weights_are_ingested_once(make_kiln: MakeKiln, built: Path) -> None:
    kiln = make_kiln()
    before = sorted(kiln.store.records.rglob("*.json"))
    assert ingest_weights(kiln, TARGET).read_bytes() == b"seed 0"
    assert sorted(kiln.store.records.rglob("*.json")) == before
