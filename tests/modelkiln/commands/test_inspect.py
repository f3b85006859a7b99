"""`invoke inspect`: what a built target is."""

import json
from pathlib import Path

from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke


def test_inspect_tells_what_a_target_is(command_line: Invoke, invoke: Invoke, built: Path) -> None:
    done = command_line("inspect", TARGET, *RANDOM)
    assert done.returncode == 0, done.stderr
    for text in ("words.txt", "random weights", "words agree", "toy_a+random0/ingest"):
        assert text in done.stdout
    told = json.loads(invoke("inspect", TARGET, *RANDOM, "--json").stdout)
    assert told["signature"][0]["file"] == "words.txt"
