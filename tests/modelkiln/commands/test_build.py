"""`invoke build` and `invoke build-all`: what they print, and what each flag does."""

import json
from pathlib import Path

import pytest

from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke, make_official


def test_as_json(invoke: Invoke) -> None:
    done = invoke("build", TARGET, *RANDOM, "--json")
    told = json.loads(done.stdout)
    assert told["published"][0]["target"] == "toy_a+random0/words/toy-text"
    assert told["failed"] == []
    assert len(told["seconds"]) == 5


def test_build_all_lists_what_it_cannot_build(command_line: Invoke) -> None:
    done = command_line("build-all", "--offline")
    assert done.returncode == 4
    assert "cannot build toy_a/words/toy-text: toy_a.pt is not in the cache" in done.stderr
    assert "cannot build sam2.1_hiera_tiny/image/onnx-fp32" in done.stderr


def test_until_stops_there_and_publishes_nothing(invoke: Invoke, toy: Path) -> None:
    done = invoke("build", TARGET, *RANDOM, "--until", "export")
    assert done.returncode == 0, done.stderr
    assert "until export; nothing is published" in done.stdout
    assert not (toy / "out").exists()
    wrong = invoke("build", "toy_wrong/words/toy-text", *RANDOM, "--until", "export")
    assert wrong.returncode == 6
    assert "nothing is published" not in wrong.stdout
    assert invoke("build", TARGET, *RANDOM, "--until", "bake").returncode == 2


@pytest.mark.parametrize("by_flag", [True, False])
def test_a_mirror_serves_official_weights(
    invoke: Invoke, toy: Path, toy_copy: Path, tmp_path: Path, by_flag: bool
) -> None:
    mirror = tmp_path / "mirror"
    make_official(toy_copy, mirror, "toy_a")
    flags = ("--mirror", str(mirror)) if by_flag else ()
    settings = {} if by_flag else {"MODELKILN_MIRROR": str(mirror)}
    done = invoke("build", TARGET, *flags, settings=settings)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((toy / "out" / TARGET / "manifest.json").read_text())
    assert manifest["weights"]["kind"] == "official"


def test_build_all_builds_what_a_mirror_has(
    invoke: Invoke, toy: Path, toy_copy: Path, tmp_path: Path
) -> None:
    make_official(toy_copy, tmp_path / "mirror", "toy_a", "toy_b")
    done = invoke("build-all", "--offline", "--mirror", str(tmp_path / "mirror"))
    assert done.returncode == 0, done.stderr
    assert "cannot build toy_wrong/words/toy-text" in done.stderr
    assert (toy / "out" / TARGET / "manifest.json").is_file()
