"""What an environment is made from, and what makes it another one."""

import os
from dataclasses import replace

import pytest

from modelkiln.environments.base_images import BasePin
from modelkiln.environments.environment import (
    Environment,
    environment,
    require_dockerfile,
    tools_digest,
)
from modelkiln.errors import EnvironmentFailure, UsageError
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
