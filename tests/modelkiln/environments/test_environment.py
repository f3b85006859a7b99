"""What an environment is made from, and what makes it another one."""

import os
from dataclasses import replace

import pytest

from modelkiln.environments.base_images import BasePin
from modelkiln.environments.environment import (
    Environment,
    environment,
    require_dockerfile,
    require_glibc,
    tools_digest,
)
from modelkiln.errors import EnvironmentFailure, UsageError
from modelkiln.paths import REPOSITORY
from modelkiln.util.machine import Interpreter
from tests.modelkiln.environments.installing import SETTINGS, again

BASE = BasePin(
    name="python",
    image="example/python",
    tag="3.11",
    digest=f"sha256:{'0' * 64}",
    interpreter="cpython-3.11.9-x86_64",
)


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


def test_unknown_environment_names_the_known() -> None:
    with pytest.raises(UsageError, match="export"):
        environment("exprot")
    with pytest.raises(UsageError):
        environment("../docker/export")


def test_an_image_is_its_dockerfile_base_lock_and_settings(wanted: Environment) -> None:
    wanted.dockerfile.write_text("FROM nothing\n")
    before = wanted.image_digest(BASE)
    wanted.selftest.write_text("pass\n")
    assert wanted.image_digest(BASE) == before
    for path in (wanted.dockerfile, wanted.lock, wanted.settings):
        path.write_text(path.read_text() + "\n")
        after = wanted.image_digest(BASE)
        assert after != before
        before = after
    assert wanted.image_digest(replace(BASE, digest=f"sha256:{'1' * 64}")) != before
    # Its tag says nothing of its bytes.
    assert wanted.image_digest(replace(BASE, tag="other")) == before


def test_a_base_is_named_in_the_settings_or_is_that_of_python(wanted: Environment) -> None:
    assert wanted.base == "python"
    wanted.settings.write_text(f'base = "cuda"\n{SETTINGS}')
    assert again(wanted).base == "cuda"
    wanted.settings.write_text("base = ")
    with pytest.raises(EnvironmentFailure, match="cannot be used"):
        _ = again(wanted).base


def test_a_file_that_is_missing_is_named(wanted: Environment) -> None:
    wanted.settings.unlink()
    with pytest.raises(EnvironmentFailure, match=r"environment\.toml cannot be read"):
        again(wanted).identity()


def test_without_a_dockerfile_there_is_no_image(wanted: Environment) -> None:
    with pytest.raises(EnvironmentFailure, match="small is not available as an image"):
        require_dockerfile(wanted)
    wanted.dockerfile.write_text("FROM nothing\n")
    require_dockerfile(wanted)


@pytest.mark.parametrize("name", ["export", "quantize", "rtx"])
def test_our_own_packages_want_the_glibc_that_they_are_chosen_for(name: str) -> None:
    one = environment(name)
    assert one.glibc == "2.28"
    assert one.redistributable is (name != "rtx")
    require_glibc(one)


def test_a_glibc_is_named_in_the_settings_or_is_that_of_the_lock(wanted: Environment) -> None:
    assert again(wanted).glibc == ""
    (wanted.lock.parent / "requirements.in").write_text("small==1.0\n")
    assert again(wanted).glibc == "2.28"
    wanted.settings.write_text(f'glibc = "2.17"\n{SETTINGS}')
    assert again(wanted).glibc == "2.17"
    for wrong in ('"new"', '"2"', "2", "true"):
        wanted.settings.write_text(f"glibc = {wrong}\n{SETTINGS}")
        with pytest.raises(EnvironmentFailure, match="cannot be used"):
            _ = again(wanted).glibc


@pytest.mark.parametrize(
    ("have", "need", "refused"),
    [
        ("2.36", "2.28", False),
        ("2.28", "2.28", False),
        ("2.27", "2.28", True),
        ("2.9", "2.28", True),
        ("3.0", "2.28", False),
        ("", "2.28", True),
        ("2.5", "", False),
    ],
)
def test_an_older_c_library_is_told_with_both_versions(
    wanted: Environment, monkeypatch: pytest.MonkeyPatch, have: str, need: str, refused: bool
) -> None:
    monkeypatch.setattr("modelkiln.environments.environment.glibc_version", lambda: have)
    wanted.settings.write_text((f'glibc = "{need}"\n' if need else "") + SETTINGS)
    if not refused:
        require_glibc(again(wanted))
        return
    with pytest.raises(EnvironmentFailure) as caught:
        require_glibc(again(wanted))
    assert caught.value.exit_code == 4
    assert f"needs glibc {need} or later" in caught.value.what
    assert (f"has glibc {have}." if have else "another C library") in caught.value.what
    assert "--runner docker" in caught.value.next and "2.36" in caught.value.next


def test_the_glibc_that_the_error_promises_is_that_of_the_base() -> None:
    """Debian 12, whose glibc is 2.36."""
    assert "bookworm" in (REPOSITORY / "docker" / "pins.toml").read_text()


def test_what_may_be_handed_on_is_said_by_the_settings(wanted: Environment) -> None:
    assert wanted.redistributable
    for said in ("false", '"yes"'):
        wanted.settings.write_text(f"redistributable = {said}\n{SETTINGS}")
        assert not again(wanted).redistributable
