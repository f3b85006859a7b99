"""Where things lie in a store, and what is found there."""

from pathlib import Path

import pytest

from modelkiln.store.layout import StoreLayout, read_record, walk_shards
from modelkiln.store.store import Store
from modelkiln.util.atomic import TEMP_PREFIX
from tests.modelkiln.store.making import build

DIGEST = "ab" * 32


@pytest.mark.parametrize("text", ["", "..", "A" * 64, "a" * 63, "a" * 65, "../" + "a" * 61])
def test_a_digest_never_leads_out(store: Store, text: str) -> None:
    for ask in (store.blob_path, store.record, store.record_path, store.step_lock):
        with pytest.raises(ValueError, match="SHA-256"):
            ask(text)


def test_nothing_is_made_and_every_name_lies_below(tmp_path: Path) -> None:
    layout = StoreLayout(tmp_path / "store")
    places = [value for value in vars(layout).values() if value != layout.root]
    places += [layout.blob_path(DIGEST), layout.record_path(DIGEST)]
    assert all(path.is_relative_to(layout.root) for path in places)
    assert layout.blob_path(DIGEST).parts[-3:] == ("cas", "ab", DIGEST)
    assert layout.record_path(DIGEST).parts[-3:] == ("records", "ab", f"{DIGEST}.json")
    assert not layout.root.exists()


def test_shards_and_strangers_are_found_and_what_is_unfinished_is_not(tmp_path: Path) -> None:
    names = ["ab/one", "ab/two", "cd/three", "README", "abc/x", "latest/a", f"{TEMP_PREFIX}1-a"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    (tmp_path / "ef").symlink_to(tmp_path / "ab")
    found = {path.relative_to(tmp_path).as_posix(): size for path, size in walk_shards(tmp_path)}
    # A folder whose name is no shard, and a link, are strangers: they are not gone into.
    assert list(found) == ["README", "ab/one", "ab/two", "abc", "cd/three", "ef"]
    assert found["cd/three"].st_size == len("cd/three")
    assert list(walk_shards(tmp_path / "gone")) == []


def test_a_record_counts_in_its_place_alone(store: Store, tmp_path: Path) -> None:
    record = build(store, "s", b"1")
    path = store.record_path(record.key)
    layout = StoreLayout(store.root)
    assert read_record(layout, path, path.lstat()) == record
    moved = path.rename(path.with_name(f"{'0' * 64}.json"))
    with pytest.raises(ValueError, match="not where a record of its name belongs"):
        read_record(layout, moved, moved.lstat())
    moved.rename(path)
    with pytest.raises(ValueError, match="not a regular file"):
        read_record(layout, path, path.parent.lstat())
    with pytest.raises(ValueError, match="SHA-256"):
        read_record(layout, path.with_name("note.txt"), path.lstat())
