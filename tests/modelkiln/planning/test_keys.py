"""Plans and keys: exactly what depends on a thing is rebuilt, and the reason is named."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import make_plan, resolve_plan
from modelkiln.planning.keys import Status, explain
from modelkiln.util.hashing import sha256_json
from tests.modelkiln.toy_builds import TARGET, make, reasons

MakeKiln = Callable[..., Kiln]
STEPS = ["ingest", "export", "convert", "reference", "verify"]


def statuses(kiln: Kiln, text: str = TARGET) -> dict[str, Status]:
    resolved = resolve_plan(kiln, make_plan(kiln, kiln.targets(text)))
    return {name.rpartition("/")[2]: one.status for name, one in resolved.items()}


def test_a_new_target_is_pending_behind_its_first_step(make_kiln: MakeKiln) -> None:
    found = statuses(make_kiln())
    assert found["ingest"] is Status.RUN
    assert all(found[name] is Status.PENDING for name in STEPS[1:])


def test_a_second_build_runs_nothing(make_kiln: MakeKiln) -> None:
    assert set(make(make_kiln())) == set(STEPS)
    assert make(make_kiln()) == {}
    assert set(statuses(make_kiln()).values()) == {Status.HIT}


def edit(path: Path, text: str = "\n# A comment.\n") -> None:
    with path.open("a") as file:
        file.write(text)


@pytest.mark.parametrize(
    ("file", "runs"),
    [
        ("exporters/stages/ingest.py", {"ingest"}),
        ("exporters/stages/reference.py", {"reference"}),
        # The graphs' metadata names the digest of the sources that made them.
        ("exporters/stages/export.py", {"export", "convert"}),
        ("exporters/stages/convert.py", {"convert"}),
        ("exporters/stages/verify.py", {"verify"}),
        ("exporters/toy/behaviour.py", set(STEPS)),
        ("pictures/toy.txt", {"reference"}),
        ("docker/bare/requirements.txt", set(STEPS)),
    ],
)
def test_an_edit_reruns_what_depends_on_it_and_stops_at_equal_bytes(
    make_kiln: MakeKiln, built: Path, toy_copy: Path, file: str, runs: set[str]
) -> None:
    edit(toy_copy / file)
    told = reasons(make_kiln())
    first = next(name for name in STEPS if name in runs)
    assert any(Path(file).name in line or "lock" in line for line in told[first])
    assert set(make(make_kiln())) == runs


def test_a_parameter_reruns_its_stage_alone(make_kiln: MakeKiln, built: Path) -> None:
    assert set(make(make_kiln(), "toy_a/words@upper/toy-text")) == {"export", "convert", "verify"}


def test_another_familys_file_changes_no_key(
    make_kiln: MakeKiln, built: Path, toy_copy: Path
) -> None:
    (toy_copy / "exporters" / "other").mkdir()
    (toy_copy / "exporters" / "other" / "__init__.py").write_text("")
    (toy_copy / "exporters" / "other" / "export.py").write_text("changed = True\n")
    assert set(statuses(make_kiln()).values()) == {Status.HIT}


def test_a_touched_file_rebuilds_nothing(make_kiln: MakeKiln, built: Path, toy_copy: Path) -> None:
    future = time.time() + 3600
    for path in toy_copy.rglob("*.py"):
        os.utime(path, (future, future))
    assert make(make_kiln()) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), JSON))
def test_a_key_does_not_depend_on_order(document: dict[str, Any]) -> None:
    turned = dict(reversed(document.items()))
    assert sha256_json(document) == sha256_json(turned)
    assert explain(document, turned) == []


@given(st.dictionaries(st.text(min_size=1, max_size=6), st.integers(), min_size=1), st.data())
def test_every_change_changes_the_key_and_is_named(
    document: Mapping[str, int], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(document)))
    changed = {**document, name: document[name] + 1}
    assert sha256_json(document) != sha256_json(changed)
    (line,) = explain(document, changed)
    assert line.startswith(name)
    assert explain(document, {n: v for n, v in document.items() if n != name}) == [
        f"{name}: gone (was {document[name]})"
    ]
