"""pins.check and pins.lock: in a repository of two locks, each fault is found.

uv is the real one; its packages lie in a folder, and it asks no index.
"""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.catalog.catalog import load_catalog
from modelkiln.commands.pins_checks import Fault, Scope, find_faults, lock_files
from modelkiln.environments.base_images import load_base
from modelkiln.environments.lockfile import read_lock
from modelkiln.environments.requirements import known_locks, make_lock, source_digest, versions
from modelkiln.errors import EnvironmentFailure, PinError, UsageError
from modelkiln.paths import REPOSITORY

SETTINGS = 'bytes = 1\nseed = ["small"]\nleft_out = ["Heavy_Part"]\n[variables]\n'


def _wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    metadata += [f"Requires-Dist: {need}\n" for need in needs]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", "".join(metadata))
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages and a repository locked to them, which tests copy."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "wheels").mkdir()
    _wheel(folder / "wheels", "small", "1.0", "heavy-part")
    _wheel(folder / "wheels", "small", "1.1", "heavy-part")
    _wheel(folder / "wheels", "heavy_part", "3.0")
    with pytest.MonkeyPatch.context() as patch:
        _see_only(folder / "wheels", patch)
        _lock_all(folder / "root", folder / "cache")
    return folder


def _see_only(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_NO_CONFIG", "1")


@pytest.fixture
def wheels(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages, the only one that uv sees."""
    folder = shutil.copytree(made / "wheels", tmp_path / "wheels")
    _see_only(folder, monkeypatch)
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path, wheels: Path) -> Path:
    """A repository with nothing at fault."""
    return shutil.copytree(made / "root", tmp_path / "root")


def _lock_all(root: Path, cache: Path) -> None:
    for name in ("requirements", "docker/work", "bench"):
        (root / name).mkdir(parents=True)
    (root / "requirements/host.in").write_text("# why\nsmall==1.0\n")
    (root / "requirements/dev.in").write_text("-r host.in\nheavy-part\n")
    (root / "docker/work/requirements.in").write_text("small>=1.0\n")
    (root / "docker/work/environment.toml").write_text(SETTINGS)
    base = load_base("python", {}).reference
    (root / "docker/work/Dockerfile").write_text(f"ARG BASE_IMAGE={base}\nFROM ${{BASE_IMAGE}}\n")
    (root / "bench/peer.txt").write_text(f"# a peer\npeer==1 --hash=sha256:{'0' * 64}\n")
    for lock in known_locks(root).values():
        make_lock(lock, root=root, cache=cache)


@pytest.fixture
def scope(root: Path) -> Scope:
    catalog = load_catalog([REPOSITORY / "catalog"])
    models = {
        name: replace(
            model,
            environment="work",
            upstream=replace(model.upstream, package="small", version="1.1"),
        )
        for name, model in catalog.models.items()
    }
    return Scope(
        root=root,
        catalog=replace(catalog, models=models),
        environment=lambda name: root / "docker" / name,
        variables={},
    )


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_this_repository_has_no_fault() -> None:
    catalog = load_catalog([REPOSITORY / "catalog"])
    scope = Scope(
        root=REPOSITORY,
        catalog=catalog,
        environment=lambda name: REPOSITORY / "docker" / name,
        variables={},
    )
    assert find_faults(scope) == []
    named = {path.relative_to(REPOSITORY).as_posix() for path in lock_files()}
    tracked = {"requirements/host.txt", "requirements/dev.txt", "docker/export/requirements.txt"}
    assert tracked | {"docker/quantize/requirements.txt", "bench/samexporter.txt"} < named


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
    _wheel(wheels, "small", "1.2")
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


def test_a_lock_for_processors_may_take_the_place_of_the_other(scope: Scope) -> None:
    lock = scope.root / "requirements/host.txt"
    _edit(lock, "small==1.0", "small==1.0+cpu")
    assert find_faults(scope) == []


def test_nothing_is_at_fault_at_first(scope: Scope) -> None:
    assert find_faults(scope) == []


def test_comments_and_order_do_not_age_a_lock(scope: Scope) -> None:
    path = scope.root / "requirements/dev.in"
    path.write_text("# other words\n\nheavy-part  # here too\n-r host.in\n")
    assert find_faults(scope) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "words", "remedy"),
    [
        ("requirements/host.txt", "--hash", "# hash", "does not pin", "invoke pins.lock host"),
        ("requirements/host.txt", "==1.0", ">=1.0", "does not pin", "invoke pins.lock host"),
        ("bench/peer.txt", "--hash", "# hash", "does not pin", "git"),
        ("requirements/host.in", "1.0", "1.1", "out of date", "invoke pins.lock host"),
        ("requirements/host.in", "1.0", "1.1", "out of date", "invoke pins.lock dev"),
        ("requirements/host.txt", "# From", "# Of", "out of date", "invoke pins.lock host"),
        ("requirements/host.txt", "1.0", "1.1", "asks for 1.0", "invoke pins.lock host"),
        ("docker/work/requirements.in", ">=1.0", ">=0", "out of date", "invoke pins.lock work"),
        ("docker/work/environment.toml", "Heavy_Part", "", "out of date", "invoke pins.lock work"),
        (
            "docker/work/requirements.txt",
            "small==1.1",
            f"heavy-part==3.0 --hash=sha256:{'0' * 64}\nsmall==1.1",
            "environment.toml leaves out",
            "invoke pins.lock work",
        ),
        (
            "docker/work/environment.toml",
            '"small"',
            '"tall"',
            "seed tall is not in the lock",
            "invoke pins.lock work",
        ),
        ("docker/work/Dockerfile", "@sha256:", "@sha256:0", "the pin is", "ARG BASE_IMAGE="),
        ("docker/work/Dockerfile", "ARG BASE", "ARG base", "not named", "ARG BASE_IMAGE="),
        ("docker/work/environment.toml", "bytes", 'base = "no"\nbytes', "no base 'no'", "Name one"),
    ],
)
def test_a_fault_is_found(
    scope: Scope, file: str, old: str, new: str, words: str, remedy: str
) -> None:
    _edit(scope.root / file, old, new)
    found = find_faults(scope)
    assert [one for one in found if words in one.message and remedy in one.remedy], found


def test_a_missing_lock_is_found(scope: Scope) -> None:
    (scope.root / "requirements/host.txt").unlink()
    assert Fault(
        about="requirements/host.txt", message="It is missing.", remedy="invoke pins.lock host"
    ) in find_faults(scope)


def test_a_base_of_ones_own_without_a_digest_is_found(scope: Scope, tmp_path: Path) -> None:
    own = tmp_path / "pins.toml"
    own.write_text('[bases.mine]\nimage = "mine"\ntag = "1"\ndigest = "unknown"\n')
    (fault,) = find_faults(replace(scope, variables={"MODELKILN_PINS": str(own)}))
    assert fault.about == "bases" and "'unknown'" in fault.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "unknown"),
        ("sha256", "AB" * 32),
        ("bytes", 0),
        ("url", "http://weights.example/a.pt"),
    ],
)
def test_a_checkpoint_that_is_not_pinned_is_found(
    scope: Scope, field: str, value: str | int
) -> None:
    name = "sam2.1_hiera_tiny"
    model = scope.catalog.models[name]
    checkpoint = replace(model.checkpoint, **{field: value})  # type: ignore[arg-type]
    models = {**scope.catalog.models, name: replace(model, checkpoint=checkpoint)}
    (fault,) = find_faults(replace(scope, catalog=replace(scope.catalog, models=models)))
    assert fault.about == f"checkpoint of {name}" and field in fault.message


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("version", "1.0", "it is 1.1"), ("digest", "unknown", "'unknown'")],
)
def test_an_upstream_that_differs_from_the_lock_is_found(
    scope: Scope, field: str, value: str, words: str
) -> None:
    models = {
        name: replace(model, upstream=replace(model.upstream, **{field: value}))  # type: ignore[arg-type]
        for name, model in scope.catalog.models.items()
        if model.family == "sam2"
    }
    (fault,) = find_faults(replace(scope, catalog=replace(scope.catalog, models=models)))
    assert fault.about == "upstream of sam2" and words in fault.message


def test_the_command_ends_with_3_and_names_the_first_fault(
    make_kiln: Callable[..., Kiln],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from modelkiln.commands import pins

    fault = Fault(about="a lock", message="It is old.", remedy="invoke pins.lock a")
    monkeypatch.setattr(pins, "find_faults", lambda _: [fault])
    with pytest.raises(PinError) as failure:
        pins.check_pins(make_kiln(offline=True), as_json=True)
    assert failure.value.exit_code == 3 and failure.value.next == "invoke pins.lock a"
    (said,) = json.loads(capsys.readouterr().out)["faults"]
    assert said == {"about": "a lock", "message": "It is old.", "remedy": "invoke pins.lock a"}
    with pytest.raises(PinError):
        pins.check_pins(make_kiln(offline=True))
    assert "-> invoke pins.lock a" in capsys.readouterr().out


def test_the_command_makes_a_lock_and_says_what_moved(
    root: Path,
    wheels: Path,
    make_kiln: Callable[..., Kiln],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from modelkiln.commands import pins

    monkeypatch.setattr(pins, "known_locks", lambda: known_locks(root))
    monkeypatch.setattr(pins, "REPOSITORY", root)
    _wheel(wheels, "small", "1.2")
    pins.lock_requirements(make_kiln(), "work", as_json=True)
    assert json.loads(capsys.readouterr().out)["moved"] == {}
    pins.lock_requirements(make_kiln(), "work", upgrade=True)
    assert "small: 1.1 -> 1.2" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no lock 'none'"):
        pins.lock_requirements(make_kiln(), "none")


def test_locking_is_loaded_by_its_commands_alone() -> None:
    program = "import sys, tasks; sys.exit('modelkiln.environments.requirements' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)
