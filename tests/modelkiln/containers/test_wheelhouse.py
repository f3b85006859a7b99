"""modelkiln.containers.wheelhouse, with pip and packages of a few lines."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelkiln.containers import wheelhouse as module
from modelkiln.containers.wheelhouse import (
    fetch,
    is_whole,
    list_packages,
    prune,
    wheelhouse,
)
from modelkiln.environments.environment import Environment
from modelkiln.errors import EnvironmentFailure, KilnError, OutOfSpace, PinError
from modelkiln.paths import REPOSITORY
from modelkiln.util.flock import hold
from modelkiln.util.process import CommandFailed
from tests.modelkiln.toy_packages import BACKEND, make_environment, make_sdist, make_wheel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages that tests copy, made once so that each test has the same."""
    folder = tmp_path_factory.mktemp("made")
    make_wheel(folder, "one")
    make_wheel(folder, "smallbackend", BACKEND)
    make_sdist(folder)
    return folder


@pytest.fixture
def packages(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and from nowhere else."""
    folder = shutil.copytree(made, tmp_path / "packages")
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def wanted(tmp_path: Path, packages: Path) -> Environment:
    return make_environment(
        tmp_path / "docker",
        {
            "one==1.0": packages / "one-1.0-py3-none-any.whl",
            "smallbackend==1.0": packages / "smallbackend-1.0-py3-none-any.whl",
            "fromsource==2.0": packages / "fromsource-2.0.tar.gz",
        },
        seed=("smallbackend",),
    )


@pytest.fixture
def plain(tmp_path: Path, packages: Path) -> Environment:
    """An environment of one wheel, for which pip runs once and not three times."""
    one = {"one==1.0": packages / "one-1.0-py3-none-any.whl"}
    return make_environment(tmp_path / "docker", one, name="plain")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def get(environment: Environment, cache: Path, told: list[str] | None = None) -> Path:
    def on_progress(_: float | None, text: str) -> None:
        if told is not None:
            told.append(text)

    return fetch(environment, cache=cache, offline=False, on_progress=on_progress)


def leftovers(cache: Path) -> list[str]:
    """What lies in the room of wheelhouses, but for logs."""
    return [path.name for path in (cache / "wheels").glob("*") if path.suffix != ".log"]


def fail(environment: Environment, cache: Path, kind: type[KilnError]) -> KilnError:
    with pytest.raises(kind) as caught:
        get(environment, cache)
    assert type(caught.value) is kind
    assert caught.value.next
    assert leftovers(cache) == []
    return caught.value


def test_all_packages_of_the_lock_are_fetched(wanted: Environment, cache: Path) -> None:
    told: list[str] = []
    folder = get(wanted, cache, told)
    assert [path.name for path in list_packages(folder)] == [
        "fromsource-2.0.tar.gz",
        "one-1.0-py3-none-any.whl",
        "smallbackend-1.0-py3-none-any.whl",
    ]
    assert folder == wheelhouse(wanted, cache)
    assert leftovers(cache) == [folder.name]
    assert any("downloading 3 packages" in text for text in told)


def test_what_is_there_is_not_fetched_again(
    plain: Environment, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = get(plain, cache)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    told: list[str] = []
    assert get(plain, cache, told) == folder
    assert fetch(plain, cache=cache, offline=True, on_progress=lambda *_: None) == folder
    assert told == []


def test_other_platforms_of_the_same_lock_do_not_decide(
    tmp_path: Path, packages: Path, cache: Path
) -> None:
    """The newest C library that the images have is what counts, on every host."""
    wheels = [
        make_wheel(packages, "native", tag=f"cp311-cp311-{tag}")
        for tag in ("manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "manylinux_2_39_x86_64")
    ]
    wheels.append(make_wheel(packages, "native", tag="cp312-cp312-manylinux_2_28_x86_64"))
    wanted = make_environment(tmp_path / "docker", {"native==1.0": wheels[1]})
    lock = wanted.lock.read_text().rstrip()
    from modelkiln.util.hashing import sha256_file

    wanted.lock.write_text(" ".join([lock, *(f"--hash=sha256:{sha256_file(w)}" for w in wheels)]))
    assert [path.name for path in list_packages(get(wanted, cache))] == [wheels[1].name]


def test_a_users_settings_do_not_decide_what_is_fetched(
    wanted: Environment, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("PIP_TARGET", str(tmp_path / "elsewhere")),
        ("PIP_NO_BINARY", ":all:"),
        ("PIP_PLATFORM", "win_amd64"),
        ("PIP_REQUIREMENT", str(tmp_path / "none.txt")),
        ("PIP_USER", "1"),
        ("PIP_REQUIRE_VIRTUALENV", "1"),
        ("PYTHONPATH", str(tmp_path / "nothing")),
    ):
        monkeypatch.setenv(name, value)
    assert len(list_packages(get(wanted, cache))) == 3


def test_another_file_under_the_same_name_is_refused(
    plain: Environment, packages: Path, cache: Path
) -> None:
    make_wheel(packages, "one", "EVIL = 1\n")
    error = fail(plain, cache, PinError)
    assert "not the one that the lock names" in error.what
    assert "one" in error.why


def test_fewer_files_than_the_lock_names_are_refused(
    plain: Environment, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "follow", lambda *_: iter(()))
    error = fail(plain, cache, PinError)
    assert "is not what" in error.what and "Without a file: one" in error.why


def test_a_lock_without_hashes_is_refused(wanted: Environment, cache: Path) -> None:
    wanted.lock.write_text("one==1.0\n")
    error = fail(wanted, cache, PinError)
    assert "does not pin 'one==1.0'" in error.what


def test_a_package_that_the_index_has_not(plain: Environment, packages: Path, cache: Path) -> None:
    (packages / "one-1.0-py3-none-any.whl").unlink()
    error = fail(plain, cache, EnvironmentFailure)
    assert error.what == "The package index does not give one 1.0."
    assert "PIP_INDEX_URL" in error.next


def test_no_network_is_told(
    wanted: Environment, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    error = fail(wanted, cache, EnvironmentFailure)
    assert "cannot be downloaded" in error.what
    assert "HTTPS_PROXY" in error.next


def test_offline_without_packages_is_told_before_pip_is_started(
    wanted: Environment, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(EnvironmentFailure, match="not in the cache") as caught:
        fetch(wanted, cache=cache, offline=True, on_progress=lambda *_: None)
    assert "--offline" in caught.value.next
    assert leftovers(cache) == []


def test_a_disk_that_fills_up_is_told(
    wanted: Environment, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Iterator[str]:
        yield "ERROR: Could not install: [Errno 28] No space left on device"
        raise CommandFailed

    monkeypatch.setattr(module, "follow", full)
    assert "disk is full" in fail(wanted, cache, OutOfSpace).what


def test_too_little_disk_is_told_before_anything_is_fetched(
    wanted: Environment, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelkiln.util.machine.disk_free", lambda _: 10)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "Not enough disk" in fail(wanted, cache, OutOfSpace).what


def test_two_at_once_fetch_once(wanted: Environment, cache: Path) -> None:
    told: list[str] = []
    place = wheelhouse(wanted, cache)
    with hold(cache / "locks" / f"wheels-{place.name}.lock"):
        thread = threading.Thread(target=get, args=(wanted, cache, told))
        thread.start()
        until(lambda: bool(told))
        assert "waiting for process" in told[0]
        # What the first one would have done.
        place.mkdir(parents=True)
        (place / "environment.json").write_text("{}")
    thread.join(10)
    assert not any("downloading" in text for text in told)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


PROGRAM = """
import sys
from pathlib import Path
from modelkiln.containers.wheelhouse import fetch
from modelkiln.environments.environment import environment
fetch(environment("locked", Path(sys.argv[1])), cache=Path(sys.argv[2]), offline=False,
      on_progress=lambda *_: None)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_leaves_nothing_half_made(
    wanted: Environment, cache: Path, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables = {name: os.environ[name] for name in ("PATH", "PIP_CONFIG_FILE")} | {
            "PYTHONPATH": str(REPOSITORY),
            "PIP_INDEX_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/simple/",
        }
        command = [sys.executable, "-c", PROGRAM, str(wanted.lock.parent.parent), str(cache)]
        # Where the tests run in the background, Ctrl-C would be ignored.
        process = subprocess.Popen(
            command,
            env=variables,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        silent.settimeout(20)
        pip, _ = silent.accept()
        with pip:
            process.send_signal(number)
            process.wait(20)
            # pip is gone as well: the other end of its connection is closed.
            pip.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                while pip.recv(1 << 16):
                    pass
    assert not is_whole(wanted, cache)
    unfinished = leftovers(cache)
    if number == signal.SIGINT:
        assert unfinished == []
    else:
        assert [name[0] for name in unfinished] == ["."]
        assert [one.kind for one in prune(cache, [])] == ["unfinished"]
        assert leftovers(cache) == []


def test_prune_removes_what_no_environment_needs(
    plain: Environment, cache: Path, tmp_path: Path, packages: Path
) -> None:
    other = make_environment(
        tmp_path / "docker", {"two==1.0": make_wheel(packages, "two")}, name="other"
    )
    kept, gone = get(plain, cache), get(other, cache)
    host = cache / "wheels" / "0123456789abcdef"
    host.mkdir()
    (host / "host-1.0-py3-none-any.whl").write_text("the host environment's")
    assert [one.folder for one in prune(cache, [plain], dry_run=True)] == [gone]
    assert gone.is_dir()
    with hold(cache / "locks" / f"wheels-{gone.name}.lock"):
        assert prune(cache, [plain]) == []
    (found,) = prune(cache, [plain])
    assert (found.folder, found.kind, found.name) == (gone, "wheels", "other")
    assert found.bytes > 100
    assert sorted(leftovers(cache)) == sorted([kept.name, host.name])
    assert prune(cache, [plain]) == []
