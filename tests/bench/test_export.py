"""bench.export with two exporters that write a few bytes."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bench.comparison import GRAPHS
from bench.export import Contender, compare_exporters
from bench.process import Command
from modelkiln.errors import StageFailure, UsageError


def contender(name: str, program: str, verify: str = "") -> Contender:
    def start(text: str) -> Callable[[Path], Command]:
        return lambda folder: Command(argv=(sys.executable, "-c", text), cwd=folder)

    def graphs(folder: Path) -> Mapping[str, Path]:
        return {graph: folder / f"{graph}.onnx" for graph in GRAPHS}

    return Contender(
        name=name,
        prepare=start(program),
        graphs=graphs,
        verify=start(verify) if verify else None,
    )


@pytest.fixture
def fake_python(tmp_path: Path) -> Path:
    """Stands for the export environment: reports file sizes and made-up times."""
    path = tmp_path / "python"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, sys\n"
        "pairs = [one.split('=', 1) for one in sys.argv[2:] if not one.startswith('--')]\n"
        "print('noise before the result')\n"
        "print(json.dumps({'runtime': 'onnxruntime 0', 'graphs': {name: {\n"
        "    'bytes': pathlib.Path(path).stat().st_size,\n"
        "    'load_seconds': [0.1, 0.2, 0.9], 'run_seconds': [1.0, 2.0, 9.0]}\n"
        "    for name, path in pairs}, 'differences': {'masks': 2e-7}}))\n"
    )
    path.chmod(0o755)
    return path


WRITE = "for n in ('encoder', 'decoder'): open(n + '.onnx', 'w').write('x' * {})"


def test_both_sides_are_measured_and_compared(tmp_path: Path, fake_python: Path) -> None:
    workspace = tmp_path / "work"
    workspace.mkdir()
    told: list[str] = []
    slow = f"import time; time.sleep(0.2)\n{WRITE.format(200)}"
    report = compare_exporters(
        contender("ours", WRITE.format(100), verify="assert open('encoder.onnx').read()"),
        contender("theirs", slow),
        model="sam2.1_hiera_tiny",
        python=fake_python,
        workspace=workspace,
        rounds=3,
        on_progress=told.append,
    )
    lines = {line.name: line for line in report.lines()}
    assert len(report.ours.usage) == len(report.theirs.usage) == 3
    assert lines["wall time"].ratio < 1
    assert lines["encoder file"].ours == 100
    assert lines["encoder file"].ratio == 0.5
    assert lines["encoder latency"].ours == 2.0
    assert lines["encoder session load"].ok
    assert report.ours.verification_seconds is not None
    assert report.theirs.verification_seconds is None
    assert [line for line in told if line.startswith("export")] == [
        "export 1/3: ours",
        "export 1/3: theirs",
        "export 2/3: theirs",
        "export 2/3: ours",
        "export 3/3: ours",
        "export 3/3: theirs",
    ]
    assert not list(workspace.glob("round*"))


def test_a_side_that_leaves_no_graph_is_named(tmp_path: Path, fake_python: Path) -> None:
    with pytest.raises(StageFailure, match="theirs left no encoder"):
        compare_exporters(
            contender("ours", WRITE.format(1)),
            contender("theirs", "pass"),
            model="any",
            python=fake_python,
            workspace=tmp_path,
            rounds=1,
            on_progress=lambda _: None,
        )


def test_no_round_is_no_bench(tmp_path: Path, fake_python: Path) -> None:
    with pytest.raises(UsageError, match="at least one"):
        compare_exporters(
            contender("ours", "pass"),
            contender("theirs", "pass"),
            model="any",
            python=fake_python,
            workspace=tmp_path,
            rounds=0,
            on_progress=lambda _: None,
        )
