"""A registry and what `pins.check` makes of its answers; the registry is a fake one."""

import pytest

from modelkiln.commands.pins_checks import ask_registries
from modelkiln.environments.base_images import BasePin
from modelkiln.fetch.registry import NotAsked, find_digest, find_repository
from tests.modelkiln.fake_registry import DIGEST, OTHER, FakeRegistry, serve


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
