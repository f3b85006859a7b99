"""Environments and their installation, with a stand-in for uv, and once with uv."""

import contextlib
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelkiln.environments import cache as module
from modelkiln.environments import install, uv
from modelkiln.environments.cache import (
    ensure,
    ensure_tools,
    find,
    in_use,
    list_environments,
    prune,
)
from modelkiln.environments.environment import Environment, environment, tools_digest
from modelkiln.environments.lockfile import read_lock
from modelkiln.errors import EnvironmentFailure, KilnError, OutOfSpace, PinError, UsageError
from modelkiln.paths import REPOSITORY
from modelkiln.util import machine
from modelkiln.util.machine import Interpreter
from tests.modelkiln.misbehaving import Told

HASH = f"--hash=sha256:{'a' * 64}"
LOCK = f"# made\nsmall==1.0 \\\n    {HASH}\nwheel==2.0 {HASH}\n"
SETTINGS = 'summary = "small"\nbytes = 1000\nseed = ["wheel"]\n[variables]\nSMALL_BUILD = "0"\n'


@pytest.fixture
def wanted(tmp_path: Path) -> Environment:
    room = tmp_path / "docker" / "small"
    room.mkdir(parents=True)
    (room / "requirements.txt").write_text(LOCK)
    (room / "environment.toml").write_text(SETTINGS)
    (room / "selftest.py").write_text("import sys\nassert sys.prefix != sys.base_prefix\n")
    return environment("small", tmp_path / "docker")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    program = tmp_path / "uv"
    script = Path(__file__).parents[1] / "fake_uv.py"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{script}" "$@"\n')
    program.chmod(0o755)
    log = tmp_path / "runs.jsonl"
    monkeypatch.setattr(uv, "find_uv", lambda: str(program))
    monkeypatch.setenv("UV_FAKE_LOG", str(log))
    monkeypatch.delenv("UV_CACHE_DIR", raising=False)

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    return read


def rooms(cache: Path) -> list[str]:
    """What lies where environments do, installations in the making included, logs not."""
    folder = cache / "environments"
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def again(wanted: Environment) -> Environment:
    """The same description, read anew."""
    return environment(wanted.name, wanted.lock.parent.parent)


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


def test_installer_sees_network_variables_and_no_others(
    wanted: Environment,
    cache: Path,
    runs: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE", "PIP_INDEX_URL", "UV_INDEX_URL"):
        monkeypatch.setenv(name, "given")
    for name in ("AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "LD_PRELOAD_CANARY"):
        monkeypatch.setenv(name, "canary")
    ensure(wanted, cache=cache, on_progress=Told())
    for run in runs():
        seen = run["variables"]
        assert "canary" not in seen.values()
        assert [seen[name] for name in ("HTTPS_PROXY", "no_proxy", "PIP_INDEX_URL")] == [
            "given"
        ] * 3
        assert seen["SMALL_BUILD"] == "0"


@pytest.mark.parametrize("name", ["requirements.txt", "environment.toml"])
def test_one_byte_of_its_files_makes_another_environment(wanted: Environment, name: str) -> None:
    before = wanted.digest
    path = wanted.lock.parent / name
    path.write_text(path.read_text() + "\n")
    assert again(wanted).digest != before


def test_selftest_and_mtime_are_not_part_of_it(wanted: Environment) -> None:
    before = wanted.digest
    wanted.selftest.write_text("pass\n")
    os.utime(wanted.lock, (0, 0))
    assert again(wanted).digest == before


def test_interpreter_is_part_of_it(wanted: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    before, tools = again(wanted).digest, tools_digest(wanted.lock)
    other = Interpreter(implementation="cpython", version="3.11.99", machine="x86_64")
    monkeypatch.setattr("modelkiln.environments.environment.interpreter", lambda: other)
    assert again(wanted).digest != before
    assert tools_digest(wanted.lock) != tools
    assert again(wanted).identity()["interpreter"] == "cpython-3.11.99-x86_64"


@pytest.mark.parametrize(
    ("behaviour", "kind", "text"),
    [
        ("mismatch", PinError, "not the one that the lock names"),
        ("network", EnvironmentFailure, "cannot be downloaded"),
        ("full", OutOfSpace, "disk is full"),
        ("build", EnvironmentFailure, "cannot be installed"),
        ("other", PinError, "is not what"),
    ],
)
def test_failed_installation_leaves_nothing_but_its_log(
    wanted: Environment,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: str,
    kind: type[KilnError],
    text: str,
) -> None:
    monkeypatch.setenv("UV_FAKE", behaviour)
    with pytest.raises(kind, match=text) as caught:
        ensure(wanted, cache=cache, on_progress=Told())
    assert type(caught.value) is kind
    assert rooms(cache) == []
    assert find(wanted, cache) is None
    log = (cache / "environments" / f"{wanted.digest}.log").read_text()
    assert "Downloading small" in log
    monkeypatch.delenv("UV_FAKE")
    ensure(wanted, cache=cache, on_progress=Told())
    assert rooms(cache) == [wanted.digest]


def test_offline_says_so(
    wanted: Environment,
    cache: Path,
    runs: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UV_FAKE", "network")
    with pytest.raises(EnvironmentFailure, match="--offline") as caught:
        ensure(wanted, cache=cache, offline=True, on_progress=Told())
    assert caught.value.exit_code == 4
    assert all("--offline" in run["arguments"] for run in runs())


def test_failing_selftest_is_shown(wanted: Environment, cache: Path) -> None:
    wanted.selftest.write_text("raise SystemExit('the library libsmall.so is missing')\n")
    with pytest.raises(EnvironmentFailure, match=r"libsmall\.so"):
        ensure(wanted, cache=cache, on_progress=Told())
    assert rooms(cache) == []


def test_disk_is_looked_at_first(
    wanted: Environment,
    cache: Path,
    runs: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "disk_free", lambda _: 1199)
    with pytest.raises(OutOfSpace, match=r"need 1\.2 kB, have 1\.2 kB"):
        ensure(wanted, cache=cache, on_progress=Told())
    assert runs() == []


@pytest.mark.parametrize(
    "lock", ["small==1.0\n", f"small>=1.0 {HASH}\n", f"small {HASH}\n", "-r other.txt\n"]
)
def test_lock_without_pin_or_hash_is_refused(
    wanted: Environment, cache: Path, runs: Callable[[], list[dict[str, Any]]], lock: str
) -> None:
    wanted.lock.write_text(lock)
    with pytest.raises(PinError, match="does not pin"):
        ensure(again(wanted), cache=cache, on_progress=Told())
    assert runs() == []


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


def test_edit_during_the_installation_is_noticed(wanted: Environment, cache: Path) -> None:
    def edit(_: float | None, text: str) -> None:
        if text.startswith("testing"):
            wanted.lock.write_text(LOCK + "\n")

    with pytest.raises(PinError, match="changed while"):
        ensure(wanted, cache=cache, on_progress=edit)
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


def test_interrupt_ends_the_installer(
    wanted: Environment, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_FAKE", "hang")

    def interrupt(_: float | None, text: str) -> None:
        if text.startswith("downloading"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure(wanted, cache=cache, on_progress=interrupt)
    assert rooms(cache) == []


def test_unwritable_cache_is_said(wanted: Environment, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(EnvironmentFailure, match="MODELKILN_CACHE"):
        ensure(wanted, cache=tmp_path / "cache", on_progress=Told())


def test_unknown_environment_names_the_known() -> None:
    with pytest.raises(UsageError, match="export"):
        environment("exprot")
    with pytest.raises(UsageError):
        environment("../docker/export")


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


def test_export_settings_are_good() -> None:
    export = environment("export")
    settings = install.read_settings(export.settings)
    names = {one.name for one in read_lock(export.lock)}
    assert settings.seed <= names
    assert settings.bytes > 4_000_000_000


def test_uv_itself_installs_a_small_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one test that uses the network: it downloads one package of 6 kB."""
    monkeypatch.undo()
    room = tmp_path / "docker" / "real"
    room.mkdir(parents=True)
    locked = read_lock(REPOSITORY / "requirements" / "dev.txt")
    text = next(one.text for one in locked if one.name == "iniconfig")
    (room / "requirements.txt").write_text(f"{text}\n")
    (room / "environment.toml").write_text("bytes = 100000\nseed = []\n[variables]\n")
    (room / "selftest.py").write_text("import iniconfig\n")
    wanted = environment("real", tmp_path / "docker")
    try:
        python = ensure(wanted, cache=tmp_path / "cache", on_progress=Told())
    except EnvironmentFailure as error:
        if "cannot be downloaded" in error.what:
            pytest.skip(f"no package index can be reached: {error.why}")
        raise
    assert python.exists()
    (room / "requirements.txt").write_text(f"{text.split()[0]} --hash=sha256:{'0' * 64}\n")
    with pytest.raises(PinError, match="not the one that the lock names"):
        ensure(again(wanted), cache=tmp_path / "cache", on_progress=Told())


def test_a_lock_older_than_its_requirements_installs_nothing(
    wanted: Environment, cache: Path
) -> None:
    (wanted.lock.parent / "requirements.in").write_text("something==2\n")
    with pytest.raises(PinError, match="out of date") as caught:
        ensure(wanted, cache=cache, on_progress=Told())
    assert f"invoke pins.lock {wanted.lock.parent.name}" in caught.value.next
    assert list(cache.glob("environments/*/bin")) == []
