"""The commands of benches: where their figures land, and what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import commands, contenders, engine_sides, export
from bench.comparison import Report
from bench.engine import Bench
from modelkiln.building.kiln import Kiln
from modelkiln.errors import StageFailure, UsageError
from tests.bench.engine_case import graph, report
from tests.bench.engine_case import side as engine_side
from tests.bench.test_comparison import report_of, side

MakeKiln = Callable[..., Kiln]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What bench.export hands to the measurement, which is left out."""
    told: dict[str, Any] = {}

    def compare(ours: object, theirs: object, **options: Any) -> Report:
        told.update(options, there=options["workspace"].is_dir())
        if options["rounds"] == 0:
            raise StageFailure("It failed.")
        return report_of(side("ours", [5.0], 1), side("theirs", [20.0], 100))

    monkeypatch.setattr(contenders, "get_tools", lambda _: (Path("/python"), Path("/tools")))
    monkeypatch.setattr(contenders, "get_checkpoint", lambda *_, **__: Path("/a.pt"))
    monkeypatch.setattr(export, "compare_exporters", compare)
    return told


def test_figures_land_beside_the_artifacts_and_are_printed(
    make_kiln: MakeKiln, given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    kiln = make_kiln()
    commands.bench_export(kiln, rounds=2)
    folder = kiln.artifacts / "bench"
    assert sorted(path.name for path in folder.iterdir()) == ["export.html", "export.json"]
    said = capsys.readouterr().out
    assert "wall time" in said and said.endswith(
        f"\n{folder / 'export.json'}\n{folder / 'export.html'}\n"
    )
    commands.bench_export(kiln, as_json=True)
    assert json.loads(capsys.readouterr().out) == json.loads((folder / "export.json").read_text())
    assert given["threads"] == kiln.catalog.threads


@pytest.mark.parametrize("rounds", [1, 0])
def test_what_was_measured_in_is_gone_afterwards(
    make_kiln: MakeKiln, given: dict[str, Any], rounds: int
) -> None:
    kiln = make_kiln()
    if rounds:
        commands.bench_export(kiln, rounds=rounds)
    else:
        with pytest.raises(StageFailure):
            commands.bench_export(kiln, rounds=rounds)
    assert given["there"] and not given["workspace"].exists()
    # On the disk of the artifacts, not in memory.
    assert given["workspace"].is_relative_to(kiln.artifacts)


def test_a_bench_takes_no_parameters(make_kiln: MakeKiln, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="takes no --opset"):
        commands.bench_export(make_kiln(parameters={"opset": "17"}))
    assert given == {}


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What bench.engine asks for, with the building left out."""
    told: dict[str, Any] = {}

    def find(_: Kiln, name: str) -> Any:
        told["name"] = name
        return SimpleNamespace(environment="bare")

    def run(bench: Bench, source: Any) -> Any:
        told.update(rounds=bench.rounds, python=bench.python, workspace=bench.workspace)
        return report(graph(engine_side(2.0), engine_side(1.9)))

    monkeypatch.setattr(engine_sides, "find_source_graphs", find)
    monkeypatch.setattr(Bench, "run", run)
    return told


@pytest.mark.parametrize("target", ["", "tiny/image/rtx-int8"])
def test_engines_of_the_default_or_of_a_named_target_are_measured(
    make_kiln: MakeKiln,
    engines: dict[str, Any],
    target: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kiln = make_kiln(parameters={"gpu": "sm89"})
    commands.bench_engine(kiln, target, rounds=4)
    assert engines["name"] == (target or "sam2.1_hiera_tiny/image/rtx-fp16")
    assert engines["rounds"] == 4
    assert engines["python"] == kiln.provisioner.python("bare")
    assert not engines["workspace"].exists()
    said = capsys.readouterr().out
    assert "plain script" in said and str(kiln.artifacts / "bench" / "engine.html") in said
    assert sorted(one.name for one in (kiln.artifacts / "bench").iterdir()) == [
        "engine.html",
        "engine.json",
    ]


def test_a_bench_without_rounds_builds_no_graphs_first(
    make_kiln: MakeKiln, engines: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="at least one round"):
        commands.bench_engine(make_kiln(), rounds=0)
    assert engines == {}
