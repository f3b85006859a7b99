"""Locks made anew from their requirements.

uv is the real one; its packages lie in a folder, and it asks no index."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from modelkiln.commands.pins_checks import lock_files
from modelkiln.environments.lockfile import read_lock
from modelkiln.environments.requirements import (
    Lock,
    exact_requirements,
    known_locks,
    make_lock,
    recorded_digest,
    require_fresh,
    source_digest,
    versions,
)
from modelkiln.errors import EnvironmentFailure, PinError, UsageError
from modelkiln.paths import REPOSITORY
from tests.modelkiln.locked import make_wheel


def test_a_lock_says_how_it_was_made_and_nothing_of_the_machine(root: Path, tmp_path: Path) -> None:
    lock = known_locks(root)["work"]
    lines = lock.path.read_text().splitlines()
    assert lines[0] == "# Made by: invoke pins.lock work"
    assert lines[1] == f"# From: docker/work/requirements.in, {source_digest(lock)}"
    assert str(tmp_path) not in lock.path.read_text()
    assert versions(lock.path) == {"small": "1.1"}
    assert versions(root / "requirements/dev.txt") == {"small": "1.0", "heavy-part": "3.0"}
    assert all(
        re.fullmatch(r"\S+==\S+ +--hash=sha256:[0-9a-f]{64}", one.text)
        for one in read_lock(lock.path)
    )


def test_versions_stay_unless_told(root: Path, wheels: Path, tmp_path: Path) -> None:
    lock, cache = known_locks(root)["work"], tmp_path / "cache"
    before = lock.path.read_bytes()
    make_wheel(wheels, "small", "1.2")
    make_lock(lock, root=root, cache=cache)
    assert lock.path.read_bytes() == before
    make_lock(lock, root=root, cache=cache, upgrade=True)
    assert versions(lock.path) == {"small": "1.2"}


def test_requirements_that_contradict_each_other_leave_the_lock(root: Path, tmp_path: Path) -> None:
    lock = known_locks(root)["host"]
    before = lock.path.read_bytes()
    lock.source.write_text("small==1.0\nsmall==1.1\n")
    with pytest.raises(UsageError, match="contradict each other"):
        make_lock(lock, root=root, cache=tmp_path / "cache")
    assert lock.path.read_bytes() == before


def test_an_address_never_gets_into_a_lock(root: Path, wheels: Path, tmp_path: Path) -> None:
    lock = known_locks(root)["host"]
    before = lock.path.read_bytes()
    lock.source.write_text(f"small @ file://{wheels}/small-1.0-py3-none-any.whl\n")
    with pytest.raises(PinError):
        make_lock(lock, root=root, cache=tmp_path / "cache")
    assert lock.path.read_bytes() == before


def test_an_index_that_is_not_reached_is_said(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_NO_INDEX")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(EnvironmentFailure, match="lock of host could not be made") as failure:
        make_lock(known_locks(root)["host"], root=root, cache=tmp_path / "cache")
    assert "network" in failure.value.next


def test_a_lock_for_processors_alone_lies_beside_the_other(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = known_locks(root)["work"]
    given: list[list[str]] = []
    real = subprocess.run

    def run(command: list[str], **options: object) -> object:
        given.append(command)
        kept = [word for word in command if word not in ("--torch-backend", "cpu")]
        return real(kept, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", run)
    path = make_lock(lock, root=root, cache=tmp_path / "cache", cpu=True)
    assert path == root / "docker/work/requirements-cpu.txt"
    assert "--torch-backend cpu" in " ".join(given[0])
    assert path.read_text().startswith("# Made by: invoke pins.lock work --cpu\n")
    assert path in lock_files(root)


def test_locking_is_loaded_by_its_commands_alone() -> None:
    program = "import sys, tasks; sys.exit('modelkiln.environments.requirements' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)


def make_room(folder: Path, requirements: str, lock: str = "", settings: str = "") -> Path:
    folder.mkdir(parents=True)
    for name, text in (("requirements.in", requirements), ("requirements.txt", lock)):
        (folder / name).write_text(text)
    if settings:
        (folder / "environment.toml").write_text(settings)
    return folder


def lock_of(room: Path) -> Lock:
    return known_locks(room.parents[1])[room.name]


def test_locks_are_known_by_where_their_requirements_lie(tmp_path: Path) -> None:
    for name in (
        "requirements/host.in",
        "docker/work/requirements.in",
        "tests/web/requirements.in",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    (tmp_path / "docker" / "copied").mkdir()
    (tmp_path / "docker" / "copied" / "requirements.txt").write_text("")
    found = known_locks(tmp_path)
    assert {name: one.path.relative_to(tmp_path).as_posix() for name, one in found.items()} == {
        "host": "requirements/host.txt",
        "work": "docker/work/requirements.txt",
        "tests-web": "tests/web/requirements.txt",
    }
    assert found["work"].command == "invoke pins.lock work"


def test_a_digest_follows_what_is_asked_for_and_not_how_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "shared.in").write_text("# why\nb==2 # here\n")
    room = make_room(tmp_path / "docker" / "work", "a==1 \\\n  ; x\n-r ../../shared.in\n")
    first = source_digest(lock_of(room))
    (room / "requirements.in").write_text("b==2\n\n# other words\na==1  ; x\nb==2\n")
    assert source_digest(lock_of(room)) == first
    (room / "environment.toml").write_text('left_out = ["c_D"]\n')
    left_out = source_digest(lock_of(room))
    assert left_out != first
    (room / "environment.toml").write_text('left_out = ["C-d"]\n')
    assert source_digest(lock_of(room)) == left_out
    (room / "requirements.in").write_text("a==1\n")
    assert source_digest(lock_of(room)) not in (first, left_out)


def test_a_lock_is_fresh_while_it_names_what_it_was_made_from(tmp_path: Path) -> None:
    room = make_room(tmp_path / "docker" / "work", "a==1\n")
    digest = source_digest(lock_of(room))
    (room / "requirements.txt").write_text(f"# Made by: x\n# From: requirements.in, {digest}\n")
    assert recorded_digest(lock_of(room)) == digest
    require_fresh(room)
    (room / "requirements.txt").write_text(f"# From: requirements.in, {'0' * 64}\n")
    with pytest.raises(PinError, match="out of date"):
        require_fresh(room)
    # One that is made elsewhere has no requirements here.
    (room / "requirements.in").unlink()
    require_fresh(room)


def test_exact_requirements_are_those_of_one_version(tmp_path: Path) -> None:
    text = "A_b==1.0\nc[extra] == 2 ; python_version > '3'\nd>=3\ne==1,!=2\nf\n"
    room = make_room(tmp_path / "docker" / "work", text)
    assert exact_requirements(lock_of(room)) == {"a-b": "1.0", "c": "2"}


def test_settings_that_leave_out_no_list_are_refused(tmp_path: Path) -> None:
    room = make_room(tmp_path / "docker" / "work", "", settings='left_out = "all"\n')
    with pytest.raises(UsageError, match="left_out is not an array"):
        lock_of(room)
    (room / "environment.toml").write_text("left_out = \n")
    with pytest.raises(UsageError, match="cannot be read as TOML"):
        lock_of(room)


def test_a_file_that_includes_one_which_is_missing_is_told(tmp_path: Path) -> None:
    room = make_room(tmp_path / "docker" / "work", "-r gone.in\n")
    with pytest.raises(EnvironmentFailure, match=r"gone\.in cannot be read"):
        source_digest(lock_of(room))
    assert versions(tmp_path / "none.txt") == {}
