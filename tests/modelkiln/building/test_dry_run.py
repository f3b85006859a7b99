"""What a build would do, and why, without doing it."""

from collections.abc import Callable
from pathlib import Path

from modelkiln.building.build import build
from modelkiln.building.dry_run import find_reasons
from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import make_plan, resolve_plan
from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke


def test_a_dry_run_does_nothing(invoke: Invoke, toy: Path) -> None:
    done = invoke("build", TARGET, *RANDOM, "--dry-run")
    assert done.returncode == 0
    assert "1 run, 4 pending" in done.stdout
    assert not (toy / "records").exists()


MakeKiln = Callable[..., Kiln]


def reasons(kiln: Kiln, text: str = TARGET) -> dict[str, list[str]]:
    resolved = resolve_plan(kiln, make_plan(kiln, kiln.targets(text)))
    return {name.rpartition("/")[2]: find_reasons(kiln, one) for name, one in resolved.items()}


def make(kiln: Kiln, text: str = TARGET) -> dict[str, float]:
    built = build(kiln, kiln.targets(text))
    kiln.save_caches()
    assert not built.failed
    return {name.rpartition("/")[2]: seconds for name, seconds in built.seconds.items()}


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
