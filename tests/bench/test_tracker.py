"""bench.tracker with scripts whose figures are known."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.export import Contender
from bench.process import Command
from bench.tracker import PUBLIC, Bench
from modelkiln.errors import StageFailure, UsageError, VerificationFailure

# Seconds of a run and bytes of memory, by what is run.
FIGURES = {"onnx ours": (2.0, 400), "onnx public": (7.0, 1000), "eager": (3.0, 800)}

SCRIPT = f"""#!{sys.executable}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
_, flag, module, *given = sys.argv
assert flag == '-m' and pathlib.Path('bench').is_dir()
flags = [one for one in given if one.startswith('--')]
given = [one for one in given if not one.startswith('--')]
with open(here / 'calls', 'a') as calls:
    print(module, *[pathlib.Path(one).name for one in given], *flags, file=calls)
print('noise before the result')
if module == 'bench.sides.public_attention':
    config, weights, out = given
    assert pathlib.Path(weights).read_text() == 'weights'
    pathlib.Path(out).write_text('p' * 100)
    names = ('nodes', 'tables', 'table_bytes', 'ScatterND', 'Expand')
    print(json.dumps(dict(zip(names, (2491, 13, 8388608, 9, 38)))))
elif module == 'bench.sides.attention':
    kind, path, *rest = given
    key = kind if kind == 'eager' else 'onnx ' + ('public' if 'public' in path else 'ours')
    seconds, peak = {FIGURES!r}[key]
    pathlib.Path(rest[-1]).write_text(key)
    print(json.dumps(dict(runtime=kind, load_seconds=None if kind == 'eager' else 0.1,
                          run_seconds=seconds, peak_bytes=peak)))
else:
    assert module == 'bench.sides.agreement'
    assert [pathlib.Path(one).read_text() for one in given] == ['eager', 'onnx ours', 'onnx public']
    print(json.dumps(dict(differences=json.loads((here / 'apart').read_text()), deviation=1)))
"""


@dataclass(kw_only=True)
class Made:
    """A bench of fake scripts, and what it called."""

    bench: Bench
    folder: Path

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def made(tmp_path: Path) -> Made:
    python = tmp_path / "python"
    python.write_text(SCRIPT)
    python.chmod(0o755)
    (tmp_path / "apart").write_text("[1e-6, 2e-6]")
    workspace = tmp_path / "work"
    workspace.mkdir()
    bench = Bench(
        python=python,
        config="tiny.yaml",
        overrides=["a=1"],
        threads=2,
        workspace=workspace,
        rounds=3,
        on_progress=lambda _: None,
    )
    return Made(bench=bench, folder=tmp_path)


WRITE = (
    "for n in ('memory_attention.onnx', 'weights'): open(n, 'w').write(n.split('.')[0])\n"
    "open('../made', 'a').write('x')"
)


def exporter(program: str = WRITE) -> Contender:
    def prepare(folder: Path) -> Command:
        return Command(argv=(sys.executable, "-c", program), cwd=folder)

    def graphs(folder: Path) -> Mapping[str, Path]:
        return {"memory_attention": folder / "memory_attention.onnx"}

    return Contender(name="modelkiln", prepare=prepare, graphs=graphs)


def weights(folder: Path) -> Path:
    return folder / "weights"


def test_all_sides_run_in_every_round_in_an_order_that_turns(made: Made) -> None:
    report = made.bench.run("tiny", exporter(), weights)
    first, *rounds, last = made.calls()
    assert first == "bench.sides.public_attention tiny.yaml weights public.onnx --override=a=1"
    ours, public, eager = "onnx memory_attention.onnx", "onnx public.onnx", "eager tiny.yaml"
    assert [" ".join(one.split()[1:3]) for one in rounds] == [
        *(ours, public, eager),
        *(public, eager, ours),
        *(eager, ours, public),
    ]
    assert all("--frames=7 --pointers=16 --threads=2" in one for one in rounds)
    assert [one for one in rounds if "eager" in one] == [
        one for one in rounds if "--override=a=1" in one
    ]
    assert last.startswith("bench.sides.agreement")
    assert report.ours.run_seconds == [2.0] * 3
    assert report.public.peak_bytes == [1000] * 3
    assert report.eager.load_seconds == []
    assert (report.ours.file_bytes, report.public.file_bytes) == (16, 100)
    assert report.eager.file_bytes is None
    assert report.differences == {"modelkiln": 1e-6, PUBLIC: 2e-6}


def test_every_export_starts_in_an_empty_folder(made: Made) -> None:
    fresh = f"import os; assert not os.listdir('.')\n{WRITE}"
    report = made.bench.run("tiny", exporter(fresh), weights)
    assert len(report.export) == 3
    assert (made.bench.workspace / "made").read_text() == "xxx"
    assert [one.name for one in made.bench.workspace.glob("export?")] == ["export2"]
    assert all(one.peak_bytes > 0 for one in report.export)


def test_a_missing_graph_is_named(made: Made) -> None:
    with pytest.raises(StageFailure, match="modelkiln left no memory_attention"):
        made.bench.run("tiny", exporter("pass"), weights)


@pytest.mark.parametrize("apart", ["[1e-6, 2e-5]", "[1e-6, NaN]"])
def test_sides_that_do_not_agree_are_no_comparison(made: Made, apart: str) -> None:
    (made.folder / "apart").write_text(apart)
    with pytest.raises(VerificationFailure, match=f"not compute the same: {PUBLIC}"):
        made.bench.run("tiny", exporter(), weights)


def test_no_round_measures_nothing(made: Made) -> None:
    with pytest.raises(UsageError, match="at least one"):
        replace(made.bench, rounds=0).run("tiny", exporter(), weights)
    assert not (made.folder / "calls").exists()
