"""How a sealed container is asked for: nothing of the machine but its mounts."""

from types import SimpleNamespace
from typing import Any

import pytest

from modelkiln.containers.owner import LABEL, this_process
from modelkiln.containers.sealing import PIDS, create_sealed
from tests.modelkiln.containers.fake_docker import Api, FakeEngine


def ask(
    selinux: bool = False, rootless: bool = False, **more: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is asked for of the container, and of its host's side."""
    api = Api(create_host_config=lambda **words: dict(words), create_container={"Id": "c1"})
    client = SimpleNamespace(api=api, containers=Api(get=lambda name: name))
    engine: Any = FakeEngine(client=client, cpus=4, selinux=selinux, rootless=rootless)
    words: dict[str, Any] = {"mounts": ["m"], "user": (10, 20), "memory": 1000, "cpus": 8, **more}
    assert create_sealed(engine, "sha256:1", ["python", "-I"], **words) == "c1"
    ((given, asked),) = api.named("create_container")
    assert given == ("sha256:1",)
    return asked, asked.pop("host_config")


def test_it_has_no_network_no_rights_and_bounds() -> None:
    asked, host = ask()
    assert host["network_mode"] == "none" and host["read_only"] and host["init"]
    assert host["cap_drop"] == ["ALL"]
    assert host["security_opt"] == ["no-new-privileges"]
    assert (host["mem_limit"], host["memswap_limit"]) == (1000, 1000)
    assert host["pids_limit"] == PIDS
    # No more processors than the engine has.
    assert host["nano_cpus"] == 4_000_000_000
    assert "noexec" in host["tmpfs"]["/tmp"]
    assert host["mounts"] == ["m"]
    assert host["device_requests"] is None
    assert host["LogConfig"] == {"Type": "none", "Config": {}}
    assert "UsernsMode" not in host
    assert asked == {
        "entrypoint": ["python", "-I"],
        "command": [],
        "user": "10:20",
        "working_dir": "/tmp",
        "environment": {"HOME": "/tmp"},
        "labels": {LABEL: this_process()},
    }


@pytest.mark.parametrize(("cpus", "nano"), [(2, 2_000_000_000), (4, 4_000_000_000)])
def test_it_gets_the_processors_that_it_needs(cpus: int, nano: int) -> None:
    assert ask(cpus=cpus)[1]["nano_cpus"] == nano


def test_what_an_engine_needs_besides_is_asked_for() -> None:
    _, host = ask(selinux=True, rootless=True, gpu=True, log=True)
    assert host["security_opt"] == ["no-new-privileges", "label=disable"]
    assert host["UsernsMode"] == "keep-id"
    (request,) = host["device_requests"]
    assert (request["Count"], request["Capabilities"]) == (-1, [["gpu"]])
    assert "LogConfig" not in host


def test_the_image_s_own_user_is_left_and_labels_are_added() -> None:
    asked, _ = ask(user=None, labels={"a": "b"}, folder="/work")
    assert asked["user"] is None and asked["working_dir"] == "/work"
    assert asked["labels"] == {LABEL: this_process(), "a": "b"}
