"""Filling the folder of an environment: whole and tested, or nothing, with a stand-in for uv."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelkiln.environments import install
from modelkiln.environments.cache import (
    ensure,
    find,
)
from modelkiln.environments.environment import Environment, environment
from modelkiln.environments.lockfile import read_lock
from modelkiln.errors import EnvironmentFailure, KilnError, OutOfSpace, PinError
from modelkiln.paths import REPOSITORY
from modelkiln.util import machine
from tests.modelkiln.environments.installing import HASH, LOCK, again, rooms
from tests.modelkiln.misbehaving import Told

pytestmark = pytest.mark.usefixtures("runs")


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


def test_edit_during_the_installation_is_noticed(wanted: Environment, cache: Path) -> None:
    def edit(_: float | None, text: str) -> None:
        if text.startswith("testing"):
            wanted.lock.write_text(LOCK + "\n")

    with pytest.raises(PinError, match="changed while"):
        ensure(wanted, cache=cache, on_progress=edit)
    assert rooms(cache) == []


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


@pytest.mark.parametrize(
    ("name", "installed"),
    [("export", 4_800_000_000), ("quantize", 7_500_000_000), ("rtx", 230_000_000)],
)
def test_settings_are_good(name: str, installed: int) -> None:
    one = environment(name)
    settings = install.read_settings(one.settings)
    assert settings.seed <= {package.name for package in read_lock(one.lock)}
    assert installed < settings.bytes < 1.1 * installed


def test_engines_come_from_two_packages_and_nothing_else() -> None:
    """With one more, what builds an engine would no longer be what its version says."""
    locked = {one.name: one.version for one in read_lock(environment("rtx").lock)}
    names = ("tensorrt-rtx-cu12-bindings", "tensorrt-rtx-cu12-libs")
    assert locked == dict.fromkeys(names, "1.7.1.116")
    assert '"1.7.1.116"' in environment("rtx").selftest.read_text()


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
