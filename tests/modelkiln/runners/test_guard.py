"""The guard's judgement of what it may find in a container, engine by engine."""

from pathlib import Path
from typing import Any

import pytest

from modelkiln.runners import guard

GIVEN = {"uid": 1000, "gpu": False, "mounts": ["/scratch", "/scratch/src", "/modelkiln/guard.py"]}
PLACES = {
    "/": "overlay",
    "/proc": "proc",
    "/proc/bus": "proc",
    "/dev": "tmpfs",
    "/dev/shm": "tmpfs",
    "/sys/fs/cgroup": "cgroup2",
    "/tmp": "tmpfs",
    "/scratch": "ext4",
    "/scratch/src": "ext4",
    "/modelkiln/guard.py": "ext4",
    "/etc/hosts": "ext4",
    "/usr/sbin/docker-init": "ext4",
}
SEEN: dict[str, Any] = {
    "step": True,
    "networks": ["lo"],
    "ids": [1000],
    "rights": dict.fromkeys(guard.RIGHTS, 0),
    "no_new_privileges": True,
    "seccomp": True,
    "root_read_only": True,
    "places": PLACES,
    "writable": ["/scratch", "/tmp", "/dev/shm"],
    "empty": [],
    "gpus": [],
}


def judge(*, gpu: bool = False, places: dict[str, str] | None = None, **changes: Any) -> list[str]:
    seen = {**SEEN, "places": {**PLACES, **(places or {})}, **changes}
    return guard.judge({**GIVEN, "gpu": gpu}, seen)[1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"networks": []},
        {"places": {"/run": "tmpfs", "/var/tmp": "tmpfs", "/run/.containerenv": "tmpfs"}},
        {"places": {"/run/secrets": "tmpfs"}, "empty": ["/run/secrets"]},
    ],
    ids=["docker", "no devices at all", "podman", "podman on fedora"],
)
def test_a_sealed_container_is_accepted(changes: dict[str, Any]) -> None:
    assert judge(**changes) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": False}, "does not see this machine's files"),
        ({"networks": ["eth0", "lo"]}, "network: it has eth0, lo"),
        ({"ids": [0]}, "user: it runs as [0]"),
        ({"ids": [0, 1000]}, "user: it runs as [0, 1000]"),
        ({"ids": [1001]}, "not as 1000"),
        ({"rights": {**SEEN["rights"], "CapBnd": 1 << 13}}, "capabilities: CapBnd"),
        ({"no_new_privileges": False}, "new ones can be gained"),
        ({"root_read_only": False}, "root is writable"),
        ({"places": {"/secret": "ext4"}}, "it sees /secret"),
        ({"places": {"/run/secrets": "tmpfs"}}, "it sees /run/secrets"),
        ({"places": {"/run": "ext4"}}, "it sees /run"),
        ({"places": {"/system": "ext4"}}, "it sees /system"),
        ({"places": {"/usr/lib/libcuda.so": "ext4"}}, "it sees /usr/lib/libcuda.so"),
        ({"writable": ["/scratch", "/etc/hosts"]}, "it can write /etc/hosts"),
    ],
)
def test_each_breach_is_named(changes: dict[str, Any], said: str) -> None:
    (found,) = judge(**changes)
    assert said in found


def test_a_gpu_brings_its_driver_and_nothing_else() -> None:
    driver = {
        "/usr/lib/x86_64-linux-gnu/libcuda.so.570": "ext4",
        "/usr/bin/nvidia-smi": "ext4",
        "/run/nvidia-persistenced/socket": "tmpfs",
        "/proc/driver/nvidia": "proc",
    }
    assert judge(gpu=True, places=driver, gpus=["nvidia0", "nvidiactl"]) == []
    (found,) = judge(gpu=True, places={**driver, "/host": "ext4"}, gpus=["nvidia0"])
    assert found == "files: it sees /host"
    (found,) = judge(gpu=True)
    assert found.startswith("gpu: there is no device")


def test_a_device_that_is_down_carries_nothing(tmp_path: Path) -> None:
    (tmp_path / "flags").write_text("0x80\n")
    assert not guard.is_up(tmp_path)
    (tmp_path / "flags").write_text("0x1003\n")
    assert guard.is_up(tmp_path)


def test_it_sees_this_machine() -> None:
    seen = guard.look()
    assert "/" in seen["places"]
    assert seen["ids"]
