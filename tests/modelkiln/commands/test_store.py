"""`invoke store.verify` and `invoke store.gc`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands.store import wanted_keys
from modelkiln.store.store import Store
from tests.conftest import MakeBuilt
from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke, folder, record_of


def test_gc_keeps_what_is_published(command_line: Invoke, invoke: Invoke, built: Path) -> None:
    invoke("build", "toy_b/words/toy-text", *RANDOM)
    for path in sorted(folder(built, "toy_b").parent.parent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    done = command_line("store.gc", "--json")
    told = json.loads(done.stdout)
    assert told["records"] and all("toy_b" in one for one in told["records"])
    assert "(up to date)" in invoke("build", TARGET, *RANDOM).stdout


def test_store_verify_names_the_damage(command_line: Invoke, invoke: Invoke, built: Path) -> None:
    assert invoke("store.verify").returncode == 0
    record = record_of(built, "toy_a+random0/words/convert")
    path = Store(built).blob_path(record.outputs["words.txt"].sha256)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().upper())
    done = command_line("store.verify")
    assert done.returncode == 8
    assert path.name in done.stdout and "toy_a+random0/words/convert" in done.stdout


def test_what_is_damaged_is_set_aside_on_request(invoke: Invoke, built: Path) -> None:
    record = record_of(built, "toy_a+random0/words/convert")
    path = Store(built).blob_path(record.outputs["words.txt"].sha256)
    path.chmod(0o644)
    path.write_bytes(b"other words")
    done = invoke("store.verify", "--repair", "--json")
    assert done.returncode == 8
    (problem,) = json.loads(done.stdout)
    assert (problem["kind"], problem["path"]) == ("damaged file", str(path))
    assert not path.exists() and len(list((built / "quarantine").iterdir())) == 1
    assert invoke("build", TARGET, *RANDOM).returncode == 0
    done = invoke("store.verify")
    assert done.stdout == f"{built}: every file is what its digest says\n"


def test_a_dry_run_of_gc_removes_nothing(invoke: Invoke, make_built: MakeBuilt) -> None:
    toy = make_built(published=False)
    done = invoke("store.gc", "--dry-run")
    assert done.stdout.startswith("would remove 5 results, ")
    assert Store(toy).latest("toy_a+random0/ingest") is not None
    assert invoke("store.gc", "--days", "1").stdout.startswith("removed 0 results, 0 files")
    assert invoke("store.gc").stdout.startswith("removed 5 results, ")
    assert Store(toy).latest("toy_a+random0/ingest") is None


def test_a_manifest_that_cannot_be_read_is_warned_of(
    make_kiln: Callable[..., Kiln], built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = set(wanted_keys(make_kiln()))
    assert len(keys) == 5
    path = folder(built) / "manifest.json"
    path.unlink()
    for text in ("{", "[]", '{"steps": 3}', '{"steps": {"a": {}}}'):
        path.write_text(text)
        assert set(wanted_keys(make_kiln())) == set()
        assert f"{path} cannot be read" in capsys.readouterr().err
