"""`invoke reproduce`: two builds under different conditions, byte by byte."""

from pathlib import Path

from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke


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
