"""`invoke verify`: a built target checked anew."""

from pathlib import Path

from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke, folder


def test_verify_notices_an_edited_file(command_line: Invoke, invoke: Invoke, built: Path) -> None:
    assert invoke("verify", TARGET, *RANDOM).returncode == 0
    path = folder(built) / "words.txt"
    path.chmod(0o644)
    path.write_text("other words")
    done = command_line("verify", TARGET, *RANDOM)
    assert done.returncode == 6
    assert "words.txt" in done.stderr
