"""bench.tracker with scripts whose figures are known."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench import attention
from bench.attention import Report
from bench.export import Contender
from bench.measured import Side
from bench.process import Command, Usage
from bench.tracker import EAGER, PUBLIC, Bench
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


def side(name: str, seconds: list[float], memory: list[int], file: int | None = 10) -> Side:
    loads = [0.1] * len(seconds) if file else []
    return Side(
        name=name,
        runtime="a runtime",
        run_seconds=seconds,
        peak_bytes=memory,
        load_seconds=loads,
        file_bytes=file,
    )


def report_of(
    ours: Side, *, wall: float = 20.0, memory: int = 10**9, name: str = "other"
) -> Report:
    return Report(
        model="tiny",
        rounds=3,
        threads=2,
        ours=ours,
        public=side(name, [6.0, 6.0, 60.0], [1000, 1000, 2000], 100),
        eager=side(EAGER, [4.0, 5.0, 40.0], [500, 500, 500], None),
        export=[Usage(wall_seconds=wall, cpu_seconds=1.0, peak_bytes=memory)],
        facts=FACTS,
        differences={ours.name: 1e-6, name: 2e-6},
        machine={"processor": "abacus"},
    )


FACTS = {"nodes": 2491, "tables": 13, "table_bytes": 8388608, "ScatterND": 9, "Expand": 38}
GOOD = side("ours", [2.0, 2.0, 20.0], [400, 400, 800], 29_000_000)


def test_a_slow_round_of_all_sides_does_not_count() -> None:
    report = report_of(GOOD)
    assert report.times_faster(report.public) == 3.0
    assert report.times_faster(report.eager) == 2.0
    assert report.share_of_memory(report.public) == 0.4
    assert report.ok


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        (lambda: report_of(replace(GOOD, run_seconds=[2.01, 2.01, 20.1])), "times as fast"),
        (lambda: report_of(replace(GOOD, peak_bytes=[401, 401, 802])), "share of its memory"),
        (lambda: report_of(replace(GOOD, file_bytes=29_000_001)), "file"),
        (lambda: report_of(GOOD, wall=60.1), "export of four graphs"),
        (lambda: report_of(GOOD, memory=5_000_000_001), "export, peak memory"),
    ],
)
def test_what_is_missed_is_said(change: Callable[[], Report], missed: str) -> None:
    report = change()
    assert not report.ok
    told = {row[0]: row[4] for row in attention.table(report)[1]}
    assert {name for name, promise in told.items() if "MISSED" in promise} == {missed}
    assert {name for name, promise in told.items() if promise.endswith(" ok")} == {
        *report.promises()
    } - {missed}


def test_the_table_shows_both_ratios() -> None:
    titles, rows = attention.table(report_of(GOOD))
    shown = {row[0]: row[1:] for row in rows}
    assert titles == ("", "ours", "other", EAGER, "promised")
    assert shown["latency"] == ("2.00 s", "6.00 s", "5.00 s", "-")
    assert shown["times as fast"] == ("-", "3.00x", "2.00x", ">= 3x ok")
    assert shown["share of its memory"] == ("-", "0.40x", "0.80x", "<= 0.4x ok")
    assert shown["file"] == ("29.0 MB", "0.0 MB", "-", "<= 29.0 MB ok")
    assert shown["export of four graphs"] == ("20.00 s", "-", "-", "<= 60.00 s ok")
    assert all(len(row) == len(titles) for row in rows)


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    data, page = attention.write(report_of(GOOD, name="<other>"), tmp_path / "bench")
    told = json.loads(data.read_text())
    assert (told["frames"], told["pointers"], told["ok"]) == (7, 16, True)
    assert told["times_faster"] == {"<other>": 3.0, EAGER: 2.0}
    assert told["ours"]["run_seconds"] == [2.0, 2.0, 20.0]
    assert told["promises"][0] == {
        "name": "times as fast",
        "value": 3.0,
        "bound": 3.0,
        "unit": "x",
        "at_least": True,
        "ok": True,
    }
    text = page.read_text()
    assert "&lt;other&gt;" in text and "<other>" not in text
    assert "13 tables of 8.4 MB" in text
    assert "http" not in text
