"""`invoke verify`: a built target checked anew."""

import json
import shutil
from pathlib import Path

from tests.conftest import MakeBuilt
from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke, folder


def test_verify_notices_an_edited_file(command_line: Invoke, invoke: Invoke, built: Path) -> None:
    assert invoke("verify", TARGET, *RANDOM).returncode == 0
    path = folder(built) / "words.txt"
    path.chmod(0o644)
    path.write_text("other words")
    done = command_line("verify", TARGET, *RANDOM)
    assert done.returncode == 6
    assert "words.txt" in done.stderr


def test_each_target_is_told(invoke: Invoke, make_built: MakeBuilt) -> None:
    make_built(f"{TARGET},toy_b/words/toy-text")
    done = invoke("verify", "toy_[ab]/words/toy-text", *RANDOM)
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [f"ok  toy_{name}+random0/words/toy-text  words agree" for name in "ab"],
    )


def test_a_target_that_differs_does_not_hide_the_others(
    invoke: Invoke, make_built: MakeBuilt
) -> None:
    toy = make_built(f"{TARGET},toy_b/words/toy-text")
    path = folder(toy) / "words.txt"
    path.unlink()
    done = invoke("verify", "toy_[ab]/words/toy-text", *RANDOM, "--json")
    assert done.returncode == 6
    told = json.loads(done.stdout)
    assert [one["ok"] for one in told.values()] == [False, True]
    assert "words.txt" in told["toy_a+random0/words/toy-text"]["what"]
    assert "FAILED toy_a+random0/words/toy-text" in done.stderr


def test_what_it_is_checked_against_has_to_be_in_the_store(invoke: Invoke, built: Path) -> None:
    shutil.rmtree(built / "records")
    done = invoke("verify", TARGET, *RANDOM)
    assert done.returncode == 2
    assert "is not in the store" in done.stderr and "invoke build toy_a+random0" in done.stderr


def test_every_gate_runs_again(invoke: Invoke, built: Path, toy_copy: Path) -> None:
    stage = toy_copy / "exporters" / "stages" / "verify.py"
    text = "from exporters.protocol import NOT_VERIFIED, StageError\n\ndef run(step):\n"
    stage.write_text(f"{text}    raise StageError('gone bad', 'a', 'b', exit_code=NOT_VERIFIED)\n")
    done = invoke("verify", TARGET, *RANDOM)
    assert done.returncode == 6
    assert "gone bad" in done.stderr
