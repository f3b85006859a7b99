"""A store that is filled is one in which everything is done."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.filled import fill_store
from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import prepare, resolve_plan
from modelkiln.errors import StoreError
from modelkiln.planning.graph import Plan

MakeKiln = Callable[..., Kiln]
TARGET = "toy_a/words/toy-text"


def test_every_step_is_done_and_the_target_published(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    assert fill_store(kiln, kiln.targets(TARGET)) == 5
    again = make_kiln()
    assert prepare(again, TARGET).is_done
    assert again.store.verify() == []
    folder = Path(kiln.artifacts, "out", "toy_a+random0", "words", "toy-text")
    assert {path.name for path in folder.iterdir()} == {
        "words.txt", "verification.json", "manifest.json",
    }  # fmt: skip
    # What is there is left alone.
    records = {path: path.stat().st_mtime_ns for path in again.store.records.rglob("*.json")}
    assert fill_store(again, again.targets(f"{TARGET},toy_b/words/toy-text")) == 10
    assert {path: path.stat().st_mtime_ns for path in records} == records


def test_a_step_that_still_counts_as_undone_is_an_error(
    make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    kiln = make_kiln()

    def lose(kiln: Kiln, plan: Plan) -> object:
        for path in kiln.store.records.glob("??/*.json"):
            path.unlink()
        return resolve_plan(kiln, plan)

    monkeypatch.setattr("bench.filled.resolve_plan", lose)
    with pytest.raises(StoreError, match=r"toy_a\+random0/ingest still counts as undone"):
        fill_store(kiln, kiln.targets(TARGET))
