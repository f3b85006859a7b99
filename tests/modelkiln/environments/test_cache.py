"""Environments and their installation, with a stand-in for uv, and once with uv."""

import contextlib
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelkiln.environments import cache as module
from modelkiln.environments.cache import (
    ensure,
    ensure_tools,
    find,
    in_use,
    list_environments,
    prune,
)
from modelkiln.environments.environment import Environment, tools_digest
from modelkiln.errors import EnvironmentFailure
from tests.modelkiln.environments.installing import SETTINGS, again, rooms
from tests.modelkiln.misbehaving import Told

pytestmark = pytest.mark.usefixtures("runs")


def test_installed_once_then_found(
    wanted: Environment, cache: Path, runs: Callable[[], list[dict[str, Any]]]
) -> None:
    assert find(wanted, cache) is None
    told = Told()
    python = ensure(wanted, cache=cache, on_progress=told)
    assert python == cache / "environments" / wanted.digest / "bin" / "python"
    assert find(wanted, cache) == python
    assert rooms(cache) == [wanted.digest]
    assert "testing the small environment" in told.texts
    commands = [run["arguments"][:2] for run in runs()]
    assert commands[0][0] == "venv"
    assert commands[1:] == [["pip", "install"]] * 2
    for run in runs()[1:]:
        assert {"--require-hashes", "--no-deps", "--no-build-isolation"} <= set(run["arguments"])
    ensure(again(wanted), cache=cache, offline=True, on_progress=Told())
    assert len(runs()) == 3


def test_environment_whose_interpreter_went_is_made_anew(wanted: Environment, cache: Path) -> None:
    python = ensure(wanted, cache=cache, on_progress=Told())
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    assert find(wanted, cache) is None
    assert os.access(ensure(wanted, cache=cache, on_progress=Told()), os.X_OK)
    assert rooms(cache) == [wanted.digest]


def _ensure_elsewhere(wanted: Environment, cache: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        ensure(wanted, cache=cache, on_progress=Told())


@pytest.mark.parametrize("by", ["ensure", "prune"])
def test_killed_installation_is_cleared(
    wanted: Environment, cache: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setenv("UV_FAKE", "hang")
    process = multiprocessing.get_context("fork").Process(
        target=_ensure_elsewhere, args=(wanted, cache)
    )
    process.start()
    log = cache / "environments" / f"{wanted.digest}.log"
    for _ in range(500):
        if log.exists() and "Downloading" in log.read_text():
            break
        process.join(0.01)
    process.kill()
    process.join()
    assert find(wanted, cache) is None
    assert [one.kind for one in list_environments(cache)] == ["unfinished"]
    monkeypatch.delenv("UV_FAKE")
    if by == "ensure":
        ensure(wanted, cache=cache, on_progress=Told())
        assert rooms(cache) == [wanted.digest]
    else:
        prune(cache, {wanted.digest})
        assert rooms(cache) == []


def test_two_processes_install_once(
    wanted: Environment, cache: Path, runs: Callable[[], list[dict[str, Any]]]
) -> None:
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=_ensure_elsewhere, args=(wanted, cache)) for _ in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join(30)
    assert [process.exitcode for process in started] == [0, 0, 0]
    assert len(runs()) == 3
    assert rooms(cache) == [wanted.digest]


def test_unwritable_cache_is_said(wanted: Environment, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(EnvironmentFailure, match="MODELKILN_CACHE"):
        ensure(wanted, cache=tmp_path / "cache", on_progress=Told())


def test_tools_lie_beside_the_environment(
    wanted: Environment, cache: Path, runs: Callable[[], list[dict[str, Any]]]
) -> None:
    def run() -> Path:
        return ensure_tools(
            "tools", wanted.lock, python=Path(sys.executable), cache=cache, on_progress=Told()
        )

    folder = run()
    assert folder == cache / "tools" / tools_digest(wanted.lock)
    assert (folder / "small-1.0.dist-info").is_dir()
    assert run() == folder
    assert len(runs()) == 1
    shutil.rmtree(folder)
    run()
    assert len(runs()) == 2


def test_list_and_prune(wanted: Environment, cache: Path) -> None:
    ensure(wanted, cache=cache, on_progress=Told())
    ensure_tools("tools", wanted.lock, python=Path(sys.executable), cache=cache, on_progress=Told())
    (cache / "uv").mkdir()
    listed = list_environments(cache)
    assert {(one.name, one.kind) for one in listed} == {
        ("small", "environment"),
        ("tools", "tools"),
    }
    assert all(one.bytes > 0 for one in listed)
    assert prune(cache, {one.digest for one in listed}) == []
    assert len(prune(cache, (), dry_run=True)) == 2
    assert len(list_environments(cache)) == 2
    with in_use(wanted, cache=cache):
        assert [one.name for one in prune(cache, ())] == ["tools"]
    assert [one.name for one in prune(cache, ())] == ["small"]
    assert list_environments(cache) == []
    assert not (cache / "uv").exists()


def test_last_used_comes_first(wanted: Environment, cache: Path) -> None:
    ensure(wanted, cache=cache, on_progress=Told())
    first = wanted
    wanted.settings.write_text(SETTINGS + "\n")
    second = again(wanted)
    ensure(second, cache=cache, on_progress=Told())
    for one, time in ((first, 1000), (second, 2000)):
        os.utime(cache / "environments" / one.digest / "environment.json", (time, time))
    assert [one.digest for one in list_environments(cache)] == [second.digest, first.digest]
    ensure(first, cache=cache, on_progress=Told())
    assert list_environments(cache)[0].digest == first.digest


def test_listing_an_empty_cache(cache: Path) -> None:
    assert list_environments(cache) == []
    assert prune(cache, ()) == []


def test_wrong_platform_stops_before_anything(
    wanted: Environment, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise EnvironmentFailure("another platform")

    monkeypatch.setattr(module, "check_platform", refuse)
    with pytest.raises(EnvironmentFailure, match="another platform"):
        ensure(wanted, cache=cache, on_progress=Told())
    assert not cache.exists()


def test_an_older_glibc_is_told_before_anything_is_fetched(
    wanted: Environment,
    cache: Path,
    runs: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted.settings.write_text(f'glibc = "2.28"\n{SETTINGS}')
    monkeypatch.setattr("modelkiln.environments.environment.glibc_version", lambda: "2.17")
    told = Told()
    with pytest.raises(EnvironmentFailure, match=r"needs glibc 2\.28 or later.*has glibc 2\.17"):
        ensure(again(wanted), cache=cache, on_progress=told)
    assert runs() == [] and told.texts == [] and not cache.exists()
