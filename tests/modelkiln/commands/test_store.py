"""`invoke store.verify` and `invoke store.gc`."""

import json
from pathlib import Path

from modelkiln.store.store import Store
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
