"""The readable tree in out/: what is put there, and put back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import prepare
from modelkiln.building.publish import Published, publish
from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke, folder

MakeKiln = Callable[..., Kiln]


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


def published(kiln: Kiln) -> Published:
    """What publishing says where every step is done."""
    prepared = prepare(kiln, TARGET)
    return publish(kiln, prepared.plan, prepared.plan.targets[0], prepared.records)


def test_only_what_differs_is_written(make_kiln: MakeKiln, built: Path) -> None:
    kiln = make_kiln()
    again = published(kiln)
    assert (again.written, again.restored) == ((), ())
    assert again.folder == folder(built)
    (folder(built) / "words.txt").unlink()
    again = published(kiln)
    assert (again.written, again.restored) == (("words.txt",), ("words.txt",))


def test_without_a_manifest_nothing_counts_as_restored(make_kiln: MakeKiln, built: Path) -> None:
    manifest = folder(built) / "manifest.json"
    before = manifest.read_bytes()
    for text in (None, "{", "[]", '{"files": 3}'):
        manifest.unlink()
        if text is not None:
            manifest.write_text(text)
        (folder(built) / "words.txt").unlink()
        again = published(make_kiln())
        # It comes last, for it vouches for the others.
        assert (again.written, again.restored) == (("words.txt", "manifest.json"), ())
        assert manifest.read_bytes() == before


def test_an_example_goes_along(make_kiln: MakeKiln, built: Path, toy_copy: Path) -> None:
    contract = toy_copy / "contracts" / "words.toml"
    (toy_copy / "examples").mkdir()
    (toy_copy / "examples" / "read.py").write_text("print(1)\n")
    kiln = make_kiln()
    assert not (folder(built) / "example.py").exists()
    plan = prepare(kiln, TARGET)
    contract.write_text('example = "read.py"\n' + contract.read_text())
    (target,) = make_kiln().targets(TARGET)
    (one,) = plan.plan.targets
    done = publish(kiln, plan.plan, replace(one, target=target), plan.records)
    assert (folder(built) / "example.py").read_text() == "print(1)\n"
    assert done.written == ("example.py", "manifest.json")
    assert {path.stat().st_mode & 0o777 for path in folder(built).iterdir()} == {0o444}
