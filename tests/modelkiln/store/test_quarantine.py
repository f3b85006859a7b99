"""What was found damaged is moved aside, and nothing else."""

from pathlib import Path

from modelkiln.store.quarantine import move_aside
from modelkiln.store.store import Store
from tests.modelkiln.store.damaging import DATA


def test_a_file_that_was_mended_meanwhile_is_not_moved_aside(store: Store) -> None:
    path = store.blob_path(store.put_bytes(DATA).sha256)
    bad = path.stat()
    store.put_bytes(DATA)
    assert move_aside(store.quarantine, path, bad) is None
    assert path.read_bytes() == DATA
    assert move_aside(store.quarantine, path, path.stat()) is not None
    assert not path.exists()


def test_what_cannot_be_moved_is_left(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    assert move_aside(tmp_path / "quarantine", bad) is None
    bad.write_text("x")
    (tmp_path / "file").write_text("in the way")
    assert move_aside(tmp_path / "file", bad) is None
    assert bad.read_text() == "x"


def test_a_link_is_moved_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    link = tmp_path / "link"
    link.symlink_to("kept")
    aside = move_aside(tmp_path / "quarantine", link)
    assert aside is not None and aside.is_symlink() and aside.name.startswith("link.")
    assert (tmp_path / "kept").read_text() == "x"


def test_two_of_one_name_do_not_meet(tmp_path: Path) -> None:
    for text in ("1", "2"):
        (tmp_path / "bad").write_text(text)
        move_aside(tmp_path / "quarantine", tmp_path / "bad")
    assert sorted(one.read_text() for one in (tmp_path / "quarantine").iterdir()) == ["1", "2"]
