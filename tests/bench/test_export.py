import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import comparison
from bench.chart import Bar, Chart, draw_chart
from bench.comparison import GRAPHS, Report, Side, compare
from bench.export import Contender, compare_exporters
from bench.process import Command, Usage
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


def side(name: str, wall: list[float], memory: int) -> Side:
    return Side(
        name=name,
        usage=[Usage(wall_seconds=one, cpu_seconds=one, peak_bytes=memory) for one in wall],
        verification_seconds=12.5 if name == "ours" else None,
        bytes=dict.fromkeys(GRAPHS, 100),
        load_seconds={graph: [0.1] for graph in GRAPHS},
        run_seconds={graph: [1.0] for graph in GRAPHS},
    )


def report_of(ours: Side, theirs: Side) -> Report:
    return Report(
        model="sam2.1_hiera_tiny",
        rounds=3,
        latency_rounds=7,
        threads=2,
        runtime="onnxruntime 0",
        ours=ours,
        theirs=theirs,
        differences={"encoder": {"image_embed": 1e-6}, "decoder": {"masks": 2e-6}},
        machine={"processor": "abacus"},
    )


@pytest.mark.parametrize(
    ("wall", "memory", "missed"),
    [
        ([9.0, 30.0, 1.0], 70, set()),
        ([10.1, 30.0, 1.0], 70, {"wall time"}),
        ([9.0, 30.0, 1.0], 71, {"peak memory"}),
    ],
)
def test_the_median_must_keep_the_bound(wall: list[float], memory: int, missed: set[str]) -> None:
    report = report_of(side("ours", wall, memory), side("theirs", [20.0, 20.0, 50.0], 100))
    assert {line.name for line in report.lines() if not line.ok} == missed
    assert report.ok is not bool(missed)
    shown = {row[0]: row[4] for row in comparison.table(report)[1]}
    assert {name for name, promise in shown.items() if "MISSED" in promise} == missed


def test_an_absolute_bound_is_on_ours_alone() -> None:
    line = compare("load", "s", [0.31], [9.0], bound=0.3, absolute=True)
    assert not line.ok


def test_a_slow_round_of_both_sides_does_not_count() -> None:
    line = compare("latency", "s", [1.0, 9.0, 9.0], [1.0, 9.0, 8.0], bound=1.05)
    assert (line.ours, line.theirs, line.ratio) == (9.0, 8.0, 1.0)
    assert line.ok


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    report = report_of(side("ours", [5.0], 1), side("theirs <other>", [20.0], 100))
    data, page = comparison.write(report, tmp_path / "bench")
    told = json.loads(data.read_text())
    assert told["ok"] is True
    assert told["lines"][0] == {
        "name": "wall time",
        "unit": "s",
        "ours": 5.0,
        "theirs": 20.0,
        "bound": 0.5,
        "absolute": False,
        "ratio": 0.25,
        "ok": True,
    }
    assert told["ours"]["usage"][0]["wall_seconds"] == 5.0
    text = page.read_text()
    assert "theirs &lt;other&gt;" in text
    assert "<other>" not in text
    assert "http" not in text


def test_verification_is_shown_apart() -> None:
    report = report_of(side("ours", [5.0], 1), side("theirs", [20.0], 100))
    assert comparison.table(report)[1][-1][:3] == ("verification, apart", "12.50 s", "none")


def test_bars_are_drawn_to_scale() -> None:
    bars = [Bar(label="a", value=2, text="2 s", ours=True), Bar(label="b", value=4, text="4 s")]
    picture = ElementTree.fromstring(draw_chart(Chart(title="t", bars=bars, mark=1.0)))
    short, long = (float(one.attrib["width"]) for one in picture.findall("rect"))
    assert long == pytest.approx(2 * short)
    start = float(picture.findall("rect")[0].attrib["x"])
    mark = picture.find("line")
    assert mark is not None
    assert float(mark.attrib["x1"]) == pytest.approx(start + short / 2)


def test_bars_of_nothing_are_still_a_picture() -> None:
    ElementTree.fromstring(draw_chart(Chart(title="t", bars=[Bar(label="a", value=0, text="0")])))
