"""The readable tree in out/: what is put there, and put back."""

from pathlib import Path

import pytest

from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke, folder


@pytest.mark.parametrize("how", ["edit", "remove", "link", "link to the same"])
def test_a_published_file_that_was_changed_is_restored(
    invoke: Invoke, built: Path, tmp_path: Path, how: str
) -> None:
    path = folder(built) / "words.txt"
    before = path.read_bytes()
    if how == "edit":
        path.chmod(0o644)
        path.write_bytes(b"Words: seed 0")
    else:
        path.unlink()
    elsewhere = b"other" if how == "link" else before
    if how.startswith("link"):
        (tmp_path / "elsewhere").write_bytes(elsewhere)
        path.symlink_to(tmp_path / "elsewhere")
    done = invoke("build", TARGET, *RANDOM)
    assert done.returncode == 0
    assert "was restored" in done.stderr
    assert path.read_bytes() == before
    assert not path.is_symlink()
    if how.startswith("link"):
        assert (tmp_path / "elsewhere").read_bytes() == elsewhere
