"""Reading the whole store: each thing that is wrong is named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.store.audit import ProblemKind
from modelkiln.store.store import Store
from tests.modelkiln.store.damaging import DAMAGES, build, flip, only_blob


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_names_a_damaged_file_and_moves_it_only_on_request(
    store: Store, damage: Callable[[Path], None]
) -> None:
    record = build(store)
    build(store, "other", b"fine")
    path = store.blob_path(only_blob(record).sha256)
    damage(path)
    for repair in (False, True):
        (problem,) = store.verify(repair=repair)
        assert (problem.kind, problem.path) == (ProblemKind.DAMAGED_FILE, path)
        assert problem.steps == ("s",)
    (problem,) = store.verify()
    assert (problem.kind, problem.path) == (ProblemKind.MISSING_FILE, path)
    build(store)
    assert store.verify() == []


def test_verify_tells_how_far_it_is(store: Store) -> None:
    build(store, "a", b"1" * 10)
    build(store, "b", b"2" * 30)
    steps: list[tuple[int, int]] = []
    store.verify(progress=lambda done, whole: steps.append((done, whole)))
    assert len(steps) == 2
    assert steps[-1] == (40, 40)


def test_a_file_in_the_wrong_folder_and_one_of_a_strange_name_are_unknown(store: Store) -> None:
    record = build(store)
    path = store.blob_path(only_blob(record).sha256)
    wrong = store.cas / "00" / path.name
    wrong.parent.mkdir()
    path.rename(wrong)
    (path.parent / "note").write_text("mine")
    found = {one.path: one for one in store.verify()}
    assert {path: (one.kind, one.detail) for path, one in found.items()} == {
        wrong: (ProblemKind.UNKNOWN_FILE, "it is in the wrong folder"),
        path.parent / "note": (ProblemKind.UNKNOWN_FILE, "the store does not make such a name"),
    }
    assert found[wrong].steps == ("s",), "what needs it does not find it there"
    assert list(found) == sorted(found)
    store.verify(repair=True)
    assert [one.kind for one in store.verify()] == [ProblemKind.MISSING_FILE]


def test_every_step_that_needs_a_damaged_file_is_named(store: Store) -> None:
    build(store, "b")
    flip(store.blob_path(only_blob(build(store, "a")).sha256))
    (problem,) = store.verify()
    assert problem.steps == ("a", "b")
    assert problem.detail.startswith("it holds the bytes of ")


def test_a_repair_leaves_what_is_whole(store: Store) -> None:
    kept, bad = build(store, "kept", b"kept"), build(store)
    flip(store.blob_path(only_blob(bad).sha256))
    store.verify(repair=True)
    assert [one.name[:64] for one in store.quarantine.iterdir()] == [only_blob(bad).sha256]
    assert store.hit(kept.key) == kept
