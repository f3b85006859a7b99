"""bench.dinov2 with scripts whose figures are known."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench import features
from bench.dinov2 import EAGER, Bench
from bench.export import Contender
from bench.features import Operator, Report, shorten
from bench.measured import Side
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


def side(name: str, seconds: list[float], *, file: int | None = 10) -> Side:
    loads = [0.1] * len(seconds) if file else []
    return Side(
        name=name,
        runtime="a runtime",
        run_seconds=seconds,
        peak_bytes=[100] * len(seconds),
        load_seconds=loads,
        file_bytes=file,
    )


OURS = {
    "products": Operator(seconds=0.8, nodes=4, products=80_000_000_000),
    "Softmax": Operator(seconds=0.19, nodes=2),
    "Add": Operator(seconds=0.006, nodes=3),
    "Mul": Operator(seconds=0.004, nodes=2),
}
PLAINLY = {
    "products": Operator(seconds=1.0, nodes=4, products=80_000_000_000),
    "Expand": Operator(seconds=1.0, nodes=1),
}


def report_of(seconds: list[float], *, plain: str = PLAIN) -> Report:
    return Report(
        target="a/target",
        rounds=3,
        threads=2,
        ours=side("ours", seconds),
        plain=side(plain, [1.0, 1.0, 10.0]),
        slower=[side(SLOWER, [2.0, 2.0, 20.0])],
        eager=side(EAGER, [4.0, 4.0, 40.0], file=None),
        nodes={"ours": 12, plain: 345},
        profiles={"ours": OURS, plain: PLAINLY},
        differences={"ours": 1e-6, plain: 2e-6, SLOWER: 3e-6},
        machine={"processor": "abacus"},
    )


@pytest.mark.parametrize(
    ("seconds", "ok", "stretch"),
    [(0.9, True, "reached"), (0.91, True, "not reached"), (1.05, True, "not reached")],
)
def test_what_is_promised_and_what_was_hoped_for(seconds: float, ok: bool, stretch: str) -> None:
    report = report_of([seconds, seconds, 10 * seconds])
    assert report.ok is ok
    assert report.stretch == f"hoped for 0.9x: {stretch}"
    assert report.document()["ok"] is ok


def test_what_is_missed_is_said() -> None:
    report = report_of([1.06, 1.06, 10.6])
    assert not report.ok
    titles, rows = features.table(report)
    shown = {row[0]: row[1:] for row in rows}
    assert shown["share of its time"] == ("-", "1.060x", "0.530x", "0.265x", "<= 1.05x MISSED")
    assert "not reached" in titles[-1]


def test_short_operators_are_one() -> None:
    found = shorten(OURS)
    assert list(found) == ["products", "Softmax", "all others"]
    assert found["all others"] == Operator(seconds=0.01, nodes=5)
    assert shorten(PLAINLY) == PLAINLY


def test_the_table_says_where_the_time_goes() -> None:
    titles, rows = features.table(report_of([0.9, 0.9, 9.0]))
    shown = {row[0]: row[1:] for row in rows}
    assert titles[:-1] == ("", "ours", PLAIN, SLOWER, EAGER)
    assert all(len(row) == len(titles) for row in rows)
    assert shown["nodes"][:3] == ("12", "345", "-")
    assert shown["files"][:4] == ("0.0 MB", "0.0 MB", "0.0 MB", "-")
    assert shown["in products"][:2] == (
        "800.0 ms, 80.0%, 100 GMAC/s",
        "1000.0 ms, 50.0%, 80 GMAC/s",
    )
    assert shown["in Expand"][:2] == ("-", "1000.0 ms, 50.0%")
    assert [row[0] for row in rows][-1] == "in all others"


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    data, page = features.write(report_of([0.9, 0.9, 9.0], plain="<plain>"), tmp_path / "bench")
    told = json.loads(data.read_text())
    assert told["share_of_time"] == {"<plain>": 0.9, SLOWER: 0.45, EAGER: 0.225}
    assert told["profiles"]["ours"]["Softmax"] == {"seconds": 0.19, "nodes": 2, "products": 0}
    assert told["promise"]["ok"] and told["ok"]
    text = page.read_text()
    assert "&lt;plain&gt;" in text and "<plain>" not in text
    assert "190.0 ms, 19.0%" in text
    assert "http" not in text
