"""What a build would do, and why, without doing it."""

from pathlib import Path

from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke


def test_a_dry_run_does_nothing(invoke: Invoke, toy: Path) -> None:
    done = invoke("build", TARGET, *RANDOM, "--dry-run")
    assert done.returncode == 0
    assert "1 run, 4 pending" in done.stdout
    assert not (toy / "records").exists()
