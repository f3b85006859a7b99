"""`invoke env.list` and `invoke env.prune`."""

import json
from pathlib import Path

from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke


def test_an_environment_can_be_removed_and_comes_back(
    command_line: Invoke, invoke: Invoke, toy: Path, tmp_path: Path
) -> None:
    settings = {"MODELKILN_CACHE": str(tmp_path / "cache")}
    assert invoke("build", TARGET, *RANDOM, settings=settings).returncode == 0
    listed = json.loads(command_line("env.list", "--json", settings=settings).stdout)
    assert [one["name"] for one in listed] == ["bare"]
    assert json.loads(invoke("env.prune", "--json", settings=settings).stdout) == []
    gone = json.loads(command_line("env.prune", "--all", "--json", settings=settings).stdout)
    assert [one["name"] for one in gone] == ["bare"]
    again = invoke("build", "toy_b/words/toy-text", *RANDOM, settings=settings)
    assert again.returncode == 0, again.stderr
