"""`invoke env.list` and `invoke env.prune`."""

import json
from pathlib import Path

from modelkiln.building.kiln import Kiln
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


def test_an_empty_cache_is_told(invoke: Invoke, tmp_path: Path) -> None:
    settings = {"MODELKILN_CACHE": str(tmp_path / "cache")}
    done = invoke("env.list", settings=settings)
    assert done.stdout == f"nothing is installed in {tmp_path / 'cache'}\n"
    assert invoke("env.prune", settings=settings).stdout == "nothing to remove\n"
    assert json.loads(invoke("env.list", "--json", settings=settings).stdout) == []


def test_what_no_lock_asks_for_goes_and_a_dry_run_keeps_it(invoke: Invoke, tmp_path: Path) -> None:
    settings = {"MODELKILN_CACHE": str(tmp_path / "cache")}
    old = tmp_path / "cache" / "environments" / ("ab" * 32)
    old.mkdir(parents=True)
    (old / "environment.json").write_text('{"name": "old", "identity": {}}')
    listed = invoke("env.list", settings=settings).stdout.splitlines()
    assert listed[0].split() == ["name", "kind", "digest", "size", "used"]
    assert listed[1].split()[:3] == ["old", "environment", "abababababab"]
    assert listed[1].endswith("0 days ago")
    done = invoke("env.prune", "--dry-run", settings=settings)
    assert done.stdout.startswith("would remove old abababababab") and old.is_dir()
    done = invoke("env.prune", settings=settings)
    assert done.stdout.startswith("removed old abababababab") and not old.exists()


def test_what_may_not_be_handed_on_goes_where_asked(
    invoke: Invoke, toy_copy: Path, tmp_path: Path
) -> None:
    """And so does uv's cache, which holds its files as well."""
    cache = tmp_path / "cache"
    kiln = Kiln()
    kept, gone = (kiln.provisioner.environment(name).digest for name in ("export", "rtx"))
    for digest, name in ((kept, "export"), (gone, "rtx")):
        (cache / "environments" / digest).mkdir(parents=True)
        (cache / "environments" / digest / "environment.json").write_text(f'{{"name": "{name}"}}')
    (cache / "uv").mkdir()
    settings = {"MODELKILN_CACHE": str(cache)}
    assert invoke("env.prune", settings=settings).stdout == "nothing to remove\n"
    done = invoke("env.prune", "--licensed", "--json", settings=settings)
    assert json.loads(done.stdout) == [{"name": "rtx", "digest": gone}]
    assert [one.name for one in (cache / "environments").iterdir()] == [kept]
    assert not (cache / "uv").exists()
