"""bench.dinov2 with scripts whose figures are known."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.dinov2 import Bench
from bench.export import Contender
from bench.features import Operator
from bench.process import Command
from modelkiln.errors import StageFailure, UsageError, VerificationFailure

PLAIN, SLOWER = "plain export, opset 20", "plain export, opset 18"

# Seconds of a run and bytes of memory, by what is run.
FIGURES = {
    "onnx features.onnx": (0.9, 300),
    "onnx plain18.onnx": (1.1, 500),
    "onnx plain20.onnx": (1.0, 400),
    "eager": (2.0, 800),
}

SCRIPT = f"""#!{sys.executable}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
_, flag, module, *given = sys.argv
assert flag == '-m' and pathlib.Path('bench').is_dir()
flags = [one for one in given if one.startswith('--')]
given = [one for one in given if not one.startswith('--')]
names = [pathlib.Path(one).name for one in given]
with open(here / 'calls', 'a') as calls:
    print(module, *names, *flags, file=calls)
print('noise before the result')
if module == 'bench.sides.plain_features':
    settings, weights, out = given
    assert json.loads(settings) == dict(architecture='vit')
    assert pathlib.Path(weights).read_text() == 'weights'
    pathlib.Path(out).write_text('p' * 100)
    print(json.dumps(dict(bytes=100)))
elif module == 'bench.sides.features':
    key = 'eager' if names[0] == 'eager' else ' '.join(names[:2])
    seconds, peak = {FIGURES!r}[key]
    pathlib.Path(given[-1]).write_text(key)
    load = None if key == 'eager' else 0.1
    print(json.dumps(dict(runtime=given[0], load_seconds=load, run_seconds=seconds,
                          peak_bytes=peak)))
elif module == 'bench.sides.operators':
    graph, scratch = given
    assert pathlib.Path(scratch).is_dir()
    operators = dict(Softmax=dict(seconds=0.4, nodes=2, products=0))
    print(json.dumps(dict(nodes=len(names[0]), operators=operators)))
else:
    assert module == 'bench.sides.agreement'
    first, *others = [pathlib.Path(one).read_text() for one in given]
    assert first == 'eager' and others == list({FIGURES!r})[:3]
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
    (tmp_path / "apart").write_text("[1e-6, 2e-6, 3e-6]")
    workspace = tmp_path / "work"
    workspace.mkdir()
    bench = Bench(
        python=python,
        settings={"architecture": "vit"},
        threads=2,
        workspace=workspace,
        rounds=3,
        on_progress=lambda _: None,
    )
    return Made(bench=bench, folder=tmp_path)


WRITE = "for n in ('features.onnx', 'weights'): open(n, 'w').write(n.split('.')[0])\n"


def exporter(program: str = WRITE) -> Contender:
    def prepare(folder: Path) -> Command:
        return Command(argv=(sys.executable, "-c", program), cwd=folder)

    def graphs(folder: Path) -> Mapping[str, Path]:
        return {"features": folder / "features.onnx"}

    return Contender(name="modelkiln", prepare=prepare, graphs=graphs)


def weights(folder: Path) -> Path:
    return folder / "weights"


def test_all_sides_run_in_every_round_in_an_order_that_turns(made: Made) -> None:
    report = made.bench.run("a/target", exporter(), weights)
    *exports, last = [one for one in made.calls() if not one.startswith("bench.sides.features")]
    rounds = [one.split()[1:] for one in made.calls() if one.startswith("bench.sides.features")]
    sides = ["features.onnx", "plain18.onnx", "plain20.onnx", "eager"]
    shown = [next(part for part in one if part in sides) for one in rounds]
    assert shown == [*sides, *sides[1:], *sides[:1], *sides[2:], *sides[:2]]
    assert all(one[-2:] == ["--runs=3", "--threads=2"] for one in rounds)
    assert [one.rpartition(" ")[2] for one in exports[:2]] == ["--opset=18", "--opset=20"]
    assert exports[2].startswith("bench.sides.agreement PyTorch-eager.npy modelkiln.npy ")
    assert [one.split()[1] for one in (exports[3], last)] == ["features.onnx", "plain20.onnx"]
    assert report.differences == {"modelkiln": 1e-6, SLOWER: 2e-6, PLAIN: 3e-6}
    assert report.ours.run_seconds == [0.9] * 3
    assert report.eager.file_bytes is None


def test_the_faster_of_the_plain_graphs_is_the_one_to_beat(made: Made) -> None:
    report = made.bench.run("a/target", exporter(), weights)
    assert report.plain.name == PLAIN
    assert [one.name for one in report.slower] == [SLOWER]
    assert report.share_of_time(report.plain) == 0.9
    assert report.nodes == {"modelkiln": len("features.onnx"), PLAIN: len("plain20.onnx")}
    assert report.profiles[PLAIN] == {"Softmax": Operator(seconds=0.4, nodes=2)}


def test_weights_beside_a_graph_are_part_of_its_size(made: Made) -> None:
    report = made.bench.run("a/target", exporter(), weights)
    assert report.ours.file_bytes == len("features")
    again = replace(made.bench, workspace=made.folder / "again")
    again.workspace.mkdir()
    split = f"{WRITE}open('features.onnx.data', 'w').write('weights')"
    report = again.run("a/target", exporter(split), weights)
    assert report.ours.file_bytes == len("features") + len("weights")


def test_a_missing_graph_is_named(made: Made) -> None:
    with pytest.raises(StageFailure, match="modelkiln left no features"):
        made.bench.run("a/target", exporter("pass"), weights)


@pytest.mark.parametrize("apart", ["[1e-6, 1e-6, 2e-5]", "[1e-6, 1e-6, NaN]"])
def test_sides_that_do_not_agree_are_no_comparison(made: Made, apart: str) -> None:
    (made.folder / "apart").write_text(apart)
    with pytest.raises(VerificationFailure, match=f"not compute the same: {PLAIN}"):
        made.bench.run("a/target", exporter(), weights)


def test_no_round_measures_nothing(made: Made) -> None:
    with pytest.raises(UsageError, match="at least one"):
        replace(made.bench, rounds=0).run("a/target", exporter(), weights)
    assert not (made.folder / "calls").exists()
