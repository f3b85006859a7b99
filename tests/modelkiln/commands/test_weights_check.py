"""`invoke weights-check`: every gate on real weights, and a page that tells of each target."""

from pathlib import Path

from tests.modelkiln.toy_builds import Invoke, make_official


def test_weights_check_reports_every_target(
    command_line: Invoke, toy_copy: Path, tmp_path: Path
) -> None:
    mirror, page = tmp_path / "mirror", tmp_path / "check.html"
    make_official(toy_copy, mirror, "toy_a", "toy_b", "toy_wrong")
    done = command_line(
        "weights-check", "--models", "toy_a,toy_b,toy_wrong", "--out", str(page),
        "--mirror", str(mirror),
    )  # fmt: skip
    assert done.returncode == 6, done.stderr
    assert "2 of 3 targets pass every gate" in done.stdout
    text = page.read_text()
    assert all(name in text for name in ("toy_a/words", "toy_b/words", "words differ"))
