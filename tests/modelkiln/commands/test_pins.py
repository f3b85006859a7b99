"""`invoke pins.check` and `invoke pins.lock`: what they print, and how they end."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands import pins as module
from modelkiln.commands.pins_checks import Fault
from modelkiln.environments.base_images import BasePin
from modelkiln.environments.requirements import known_locks
from modelkiln.errors import PinError, UsageError
from tests.modelkiln.fake_registry import DIGEST, OTHER, FakeRegistry
from tests.modelkiln.locked import make_wheel


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
    make_wheel(wheels, "small", "1.2")
    pins.lock_requirements(make_kiln(), "work", as_json=True)
    assert json.loads(capsys.readouterr().out)["moved"] == {}
    pins.lock_requirements(make_kiln(), "work", upgrade=True)
    assert "small: 1.1 -> 1.2" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no lock 'none'"):
        pins.lock_requirements(make_kiln(), "none")


def test_the_command_says_drift(
    base: BasePin,
    registry: type[FakeRegistry],
    make_kiln: Callable[..., Kiln],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "load_bases", lambda _: (base,))
    monkeypatch.setattr(module, "find_faults", lambda _: [])
    module.check_pins(make_kiln(), as_json=True)
    read = json.loads(capsys.readouterr().out)
    assert read["faults"] == [] and read["bases"]["python"]["asked"]
    registry.manifests = {"3.11": OTHER, DIGEST: DIGEST}
    with pytest.raises(PinError) as failure:
        module.check_pins(make_kiln())
    assert failure.value.exit_code == 3
    assert f"is {OTHER} now" in capsys.readouterr().out
    asked = len(registry.methods)
    module.check_pins(make_kiln(offline=True))
    assert "not asked: the registry of base python, --offline" in capsys.readouterr().out
    assert len(registry.methods) == asked
    registry.status = 503
    module.check_pins(make_kiln(), as_json=True)
    found = json.loads(capsys.readouterr().out)["bases"]["python"]
    assert not found["asked"] and "503" in found["reason"]
    module.check_pins(make_kiln())
    assert "not asked: the registry of base python" in capsys.readouterr().out
