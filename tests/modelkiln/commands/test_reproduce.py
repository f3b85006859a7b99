"""`invoke reproduce`: two builds under different conditions, byte by byte."""

import json
from pathlib import Path

from modelkiln.commands.reproduce import CONDITIONS
from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke, folder


def test_another_time_zone_umask_and_seed_change_nothing(command_line: Invoke) -> None:
    done = command_line("reproduce", TARGET, *RANDOM)
    assert done.returncode == 0, done.stderr
    assert "the same bytes in build 1 and build 2" in done.stdout


def test_a_stage_that_reads_the_hash_seed_is_not_reproducible(
    invoke: Invoke, toy_copy: Path
) -> None:
    export = toy_copy / "exporters" / "stages" / "export.py"
    text = export.read_text()
    export.write_text(text.replace('"words: " +', 'f"{hash(str(step.stage))} words: " +'))
    done = invoke("reproduce", TARGET, *RANDOM)
    assert done.returncode == 7, done.stderr
    assert "words.txt" in done.stderr


def test_what_is_published_is_compared_as_well(invoke: Invoke, built: Path) -> None:
    path = folder(built) / "words.txt"
    path.chmod(0o644)
    path.write_text("other words")
    done = invoke("reproduce", TARGET, *RANDOM, "--json")
    assert done.returncode == 7
    told = json.loads(done.stdout)
    assert told["different"] == ["words.txt"]
    assert told["builds"]["build 1"] == told["builds"]["build 2"] != told["builds"]["published"]
    kept = built / "reproduce" / "toy_a+random0" / "words" / "toy-text"
    assert f"Compare the builds in {kept}." in done.stderr
    assert {one.name for one in kept.iterdir()} >= {"one", "another folder"}


def test_conditions_are_told_in_words() -> None:
    first, second = CONDITIONS
    assert str(first).startswith("TZ=Pacific/Auckland, ") and str(first).endswith("umask 022")
    assert first.settings.keys() == second.settings.keys()
    assert all(first.settings[name] != second.settings[name] for name in first.settings)
    assert (first.umask, first.folder) != (second.umask, second.folder)
