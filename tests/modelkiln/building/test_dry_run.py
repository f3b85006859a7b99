"""What a build would do, and why, without doing it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.dry_run import show_plan
from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import make_plan, prepare, resolve_plan
from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke, make, reasons


def test_a_dry_run_does_nothing(invoke: Invoke, toy: Path) -> None:
    done = invoke("build", TARGET, *RANDOM, "--dry-run")
    assert done.returncode == 0
    assert "1 run, 4 pending" in done.stdout
    assert not (toy / "records").exists()


MakeKiln = Callable[..., Kiln]


def test_a_setting_is_named(make_kiln: MakeKiln, built: Path, toy_copy: Path) -> None:
    models = toy_copy / "models" / "toy.toml"
    models.write_text(models.read_text().replace('behave = "well"', 'behave = "nicely"'))
    told = reasons(make_kiln())
    assert told["ingest"] == ["params[behave]: well -> nicely"]
    assert told["verify"][0].startswith("pending: after")


def test_a_lost_output_is_named_and_made_again(make_kiln: MakeKiln, built: Path) -> None:
    kiln = make_kiln()
    resolved = resolve_plan(kiln, make_plan(kiln, kiln.targets(TARGET)))
    record = resolved["toy_a+random0/words/export"].record
    assert record is not None
    kiln.store.blob_path(record.outputs["words.txt"].sha256).unlink()
    assert reasons(make_kiln())["export"] == ["an output of its record is missing from the store"]
    assert set(make(make_kiln())) == {"export"}


def test_a_plan_is_told_as_data(make_kiln: MakeKiln, capsys: pytest.CaptureFixture[str]) -> None:
    kiln = make_kiln(runner="local")
    show_plan(kiln, prepare(kiln, TARGET), as_json=True, why=True)
    told = json.loads(capsys.readouterr().out)
    steps = {one["id"]: one for one in told["steps"]}
    (target,) = told["targets"]
    assert target == {"target": "toy_a+random0/words/toy-text", "steps": list(steps)}
    ingest, export = steps["toy_a+random0/ingest"], steps["toy_a+random0/words/export"]
    assert (ingest["status"], ingest["reasons"]) == ("run", ["it has never run"])
    assert (export["status"], export["key"]) == ("pending", None)
    assert export["needs"] == ["toy_a+random0/ingest"]
    assert export["inputs"]["weights.safetensors"] == {
        "step": "toy_a+random0/ingest", "output": "weights.safetensors",
    }  # fmt: skip
    reference = steps["toy_a+random0/toy/reference"]
    assert reference["inputs"]["pictures/toy.txt"] == {"source": "toy.txt"}


def test_a_plan_is_told_as_lines(
    make_kiln: MakeKiln, built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kiln = make_kiln()
    show_plan(kiln, prepare(kiln, "toy_a/words@upper/toy-text"), why=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("hit      toy_a+random0/ingest ")
    assert lines[-1] == "2 hit, 1 run, 2 pending"
    at = next(n for n, line in enumerate(lines) if line.startswith("run "))
    assert lines[at + 1] == "         it has never run"
    assert any(line.startswith("pending ") and " after " in line for line in lines)
