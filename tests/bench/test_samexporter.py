import sys
from pathlib import Path

import pytest

from bench import samexporter
from modelkiln.errors import StageFailure


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Stands for the export environment: notes each call and writes what is asked for."""
    path = tmp_path / "python"
    path.write_text(
        f"#!{sys.executable}\n"
        "import os, pathlib, sys\n"
        f"with open({str(tmp_path / 'calls')!r}, 'a') as calls:\n"
        "    print(sys.argv[1:3], os.environ.get('PYTHONPATH'), file=calls)\n"
        "if sys.argv[1].endswith('checkpoint.py'):\n"
        "    pathlib.Path(sys.argv[3]).write_bytes(pathlib.Path(sys.argv[2]).read_bytes())\n"
        "else:\n"
        "    given = dict(one[2:].split('=', 1) for one in sys.argv[3:] if '=' in one)\n"
        "    weights = pathlib.Path(given['checkpoint']).read_bytes()\n"
        "    if weights == b'bad': sys.exit('cannot read it')\n"
        "    for name in ('encoder', 'decoder'):\n"
        "        pathlib.Path(given[f'output_{name}']).write_bytes(weights)\n"
    )
    path.chmod(0o755)
    return path


def export(tmp_path: Path, python: Path, content: bytes, environment: str = "e") -> Path:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(content)
    return samexporter.cached_export(
        weights,
        python=python,
        tools=tmp_path / "tools",
        model="sam2.1_hiera_tiny",
        environment=environment,
        cache=tmp_path / "cache",
    )


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_the_export_is_made_once(tmp_path: Path, python: Path) -> None:
    first = export(tmp_path, python, b"weights")
    assert {name: path.read_bytes() for name, path in samexporter.graphs(first).items()} == {
        "encoder": b"weights",
        "decoder": b"weights",
    }
    assert export(tmp_path, python, b"weights") == first
    assert len(calls(tmp_path)) == 2
    assert calls(tmp_path)[1] == (f"['-m', 'samexporter.export_sam2'] {tmp_path / 'tools'}")


def test_only_the_graphs_and_the_log_are_kept(tmp_path: Path, python: Path) -> None:
    place = export(tmp_path, python, b"weights")
    assert {path.name for path in place.iterdir()} == {"encoder.onnx", "decoder.onnx", "log.txt"}
    assert list(place.parent.iterdir()) == [place]


def test_other_weights_or_another_environment_are_another_export(
    tmp_path: Path, python: Path
) -> None:
    first = export(tmp_path, python, b"weights")
    assert export(tmp_path, python, b"others") != first
    assert export(tmp_path, python, b"weights", environment="f") != first


def test_a_failed_export_leaves_nothing(tmp_path: Path, python: Path) -> None:
    with pytest.raises(StageFailure, match="status 1") as caught:
        export(tmp_path, python, b"bad")
    assert "cannot read it" in caught.value.why
    assert list((tmp_path / "cache" / "samexporter").iterdir()) == []


def test_the_lock_pins_one_wheel() -> None:
    lines = [line for line in samexporter.LOCK.read_text().splitlines() if line[:1] != "#"]
    assert lines[0] == "samexporter==0.5.0 \\"
    assert len([line for line in lines if "--hash=sha256:" in line]) == 1
