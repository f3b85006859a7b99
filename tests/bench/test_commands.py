"""The commands of benches: where their figures land, and what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import commands, contenders, export
from bench.comparison import Report
from modelkiln.building.kiln import Kiln
from modelkiln.errors import StageFailure, UsageError
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
