"""A registry and what `pins.check` makes of its answers; the registry is a fake one."""

import json
from collections.abc import Callable, Iterator

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands import pins as module
from modelkiln.commands.pins_checks import ask_registries
from modelkiln.environments.base_images import BasePin
from modelkiln.errors import PinError
from modelkiln.fetch.registry import NotAsked, find_digest, find_repository
from tests.modelkiln.fake_registry import FakeRegistry, serve

DIGEST = f"sha256:{'ab' * 32}"
OTHER = f"sha256:{'cd' * 32}"


@pytest.fixture
def registry() -> type[FakeRegistry]:
    class One(FakeRegistry):
        manifests = {"3.11": DIGEST, DIGEST: DIGEST}  # noqa: RUF012
        methods = []  # noqa: RUF012

    return One


@pytest.fixture
def base(registry: type[FakeRegistry], monkeypatch: pytest.MonkeyPatch) -> Iterator[BasePin]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(registry) as host:
        yield BasePin(
            name="python",
            image=f"{host}/team/python",
            tag="3.11",
            digest=DIGEST,
            interpreter="cpython-3.11.9-x86_64",
        )


@pytest.mark.parametrize(
    ("image", "host", "path", "name"),
    [
        ("python", "registry-1.docker.io", "library/python", "docker.io/library/python"),
        ("docker.io/python", "registry-1.docker.io", "library/python", "docker.io/library/python"),
        ("team/python", "registry-1.docker.io", "team/python", "docker.io/team/python"),
        ("ghcr.io/team/python", "ghcr.io", "team/python", "ghcr.io/team/python"),
        ("localhost/python", "localhost", "python", "localhost/python"),
    ],
)
def test_names_are_read_as_docker_reads_them(image: str, host: str, path: str, name: str) -> None:
    found = find_repository(image)
    assert (found.host, found.path, found.name) == (host, path, name)
    assert found.origin == f"{'http' if host == 'localhost' else 'https'}://{host}"


def test_a_pin_that_stands_has_no_fault(base: BasePin, registry: type[FakeRegistry]) -> None:
    assert ask_registries({"python": base}) == ([], {})
    assert len(registry.methods) == 4


@pytest.mark.parametrize(
    ("manifests", "words"),
    [
        ({"3.11": OTHER, DIGEST: DIGEST}, f"is {OTHER} now; the pin is {DIGEST}"),
        ({"3.11": DIGEST}, "knows no"),
        ({"3.11": OTHER, DIGEST: OTHER}, "knows no"),
        ({DIGEST: DIGEST}, "has no tag 3.11"),
    ],
)
def test_drift_and_an_unknown_digest_are_faults(
    base: BasePin, registry: type[FakeRegistry], manifests: dict[str, str], words: str
) -> None:
    registry.manifests = manifests
    (fault,), unasked = ask_registries({"python": base})
    assert words in fault.message and not unasked
    assert fault.about == "base python" and "docker/pins.toml" in fault.remedy


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_registry_that_does_not_tell_is_no_fault(
    base: BasePin, registry: type[FakeRegistry], status: int
) -> None:
    registry.status = status
    faults, unasked = ask_registries({"python": base})
    assert not faults and f"answers {status}" in unasked["python"]


def test_a_registry_that_is_not_there_is_no_fault(registry: type[FakeRegistry]) -> None:
    with serve(registry) as host:
        pass
    with pytest.raises(NotAsked, match="cannot be reached"):
        find_digest(find_repository(f"{host}/team/python"), DIGEST)


@pytest.mark.parametrize("realm", ["http://registry.example/token", "file:///etc/passwd"])
def test_a_token_is_asked_for_safely(
    base: BasePin, registry: type[FakeRegistry], realm: str
) -> None:
    registry.realm = realm
    faults, unasked = ask_registries({"python": base})
    assert not faults and "login" in unasked["python"]


def test_a_digest_that_is_none_is_no_answer(base: BasePin, registry: type[FakeRegistry]) -> None:
    registry.manifests = {"3.11": "sha256:short", DIGEST: "sha256:short"}
    faults, unasked = ask_registries({"python": base})
    assert not faults and "does not say" in unasked["python"]


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
