"""The trial of a new image: its packages, then its self-test, each in a sealed container."""

import os
from pathlib import Path
from typing import Any

import pytest
import requests

from modelkiln.containers import trial
from modelkiln.containers.trial import try_image
from modelkiln.environments.environment import Environment, environment
from modelkiln.errors import EnvironmentFailure, PinError
from tests.modelkiln.containers.fake_docker import Api, FakeEngine

LOCK = f"small==1.0 --hash=sha256:{'a' * 64}\n"
HAS_SMALL = b'{"Small": "1.0"}'


@pytest.fixture
def wanted(tmp_path: Path) -> Environment:
    room = tmp_path / "docker" / "small"
    room.mkdir(parents=True)
    (room / "requirements.txt").write_text(LOCK)
    (room / "selftest.py").write_text("import small\n")
    (room / "selftest.py").chmod(0o600)
    return environment("small", tmp_path / "docker")


class Trials:
    """The containers of a trial: what each says, and with which status it ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *ends: tuple[object, bytes]) -> None:
        self.ends = list(ends)
        self.started: list[dict[str, Any]] = []
        self.made: list[Api] = []
        self.engine: Any = FakeEngine(cpus=4)
        monkeypatch.setattr(trial, "create_sealed", self.create)

    def create(self, _: object, image: str, words: list[str], **options: Any) -> Api:
        status, said = self.ends.pop(0)
        wait = status if isinstance(status, Exception) else {"StatusCode": status}
        made = Api(start=None, wait=wait, logs=said, remove=None, reload=None)
        made.status = "running"  # type: ignore[attr-defined]
        mounts = [Path(one["Source"]) for one in options["mounts"]]
        texts = [(one.read_text(), one.stat().st_mode & 0o777) for one in mounts]
        self.started.append({"image": image, "words": words, "mounted": texts, **options})
        self.made.append(made)
        return made


def test_packages_are_compared_and_the_self_test_runs(
    monkeypatch: pytest.MonkeyPatch, wanted: Environment, tmp_path: Path
) -> None:
    trials = Trials(monkeypatch, (0, HAS_SMALL), (0, b""))
    before = os.umask(0o077)
    try:
        try_image(trials.engine, "sha256:1", wanted, tmp_path)
    finally:
        os.umask(before)
    first, second = trials.started
    assert first["words"][:2] == ["/opt/venv/bin/python", "-I"] and first["mounted"] == []
    # The container's user is another one than the file's.
    assert second["mounted"] == [("import small\n", 0o644)]
    assert (first["user"], first["log"], first["image"]) == (None, True, "sha256:1")
    assert [len(one.named("remove")) for one in trials.made] == [1, 1]
    assert list(tmp_path.glob(".trial-*")) == []


def test_other_packages_than_the_lock_s_are_told(
    monkeypatch: pytest.MonkeyPatch, wanted: Environment, tmp_path: Path
) -> None:
    trials = Trials(monkeypatch, (0, b'{"small": "1.1"}'))
    with pytest.raises(PinError, match="What was installed is not what"):
        try_image(trials.engine, "sha256:1", wanted, tmp_path)
    assert len(trials.started) == 1


@pytest.mark.parametrize(
    ("said", "why"), [(b"a\n" * 20 + b"no libsmall.so\n", "no libsmall.so"), (b"", "ended with 3")]
)
def test_a_self_test_that_fails_shows_its_last_lines(
    monkeypatch: pytest.MonkeyPatch, wanted: Environment, tmp_path: Path, said: bytes, why: str
) -> None:
    trials = Trials(monkeypatch, (0, HAS_SMALL), (3, said))
    with pytest.raises(EnvironmentFailure, match="small image fails its self-test") as caught:
        try_image(trials.engine, "sha256:1", wanted, tmp_path)
    assert why in caught.value.why and len(caught.value.why.splitlines()) <= 8
    assert len(trials.made[1].named("remove")) == 1


def test_one_that_hangs_is_ended(
    monkeypatch: pytest.MonkeyPatch, wanted: Environment, tmp_path: Path
) -> None:
    trials = Trials(monkeypatch, (requests.ReadTimeout(), b""))
    with pytest.raises(EnvironmentFailure) as caught:
        try_image(trials.engine, "sha256:1", wanted, tmp_path)
    assert "did not end within" in caught.value.why
    assert len(trials.made[0].named("remove")) == 1
