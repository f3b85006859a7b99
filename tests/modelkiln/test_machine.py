"""modelkiln.machine: what is read from the system, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelkiln import machine
from modelkiln.errors import EnvironmentFailure, OutOfSpace
from modelkiln.machine import (
    base_python,
    check_platform,
    cpu_count,
    disk_free,
    interpreter,
    memory_available,
    require_disk,
    unshare_command,
)
from modelkiln.units import human_bytes


def test_this_machine_is_supported() -> None:
    check_platform()
    assert interpreter().tag.startswith("cpython-3.11.")


@pytest.mark.parametrize(
    ("system", "name", "python", "said"),
    [
        ("darwin", "arm64", (3, 11), "darwin arm64"),
        ("win32", "AMD64", (3, 11), "win32 AMD64"),
        ("linux", "aarch64", (3, 11), "linux aarch64"),
        ("linux", "x86_64", (3, 12), "cpython 3.12"),
        ("linux", "x86_64", (3, 10), "cpython 3.10"),
    ],
)
def test_other_platforms_are_refused(
    system: str, name: str, python: tuple[int, int], said: str
) -> None:
    with pytest.raises(EnvironmentFailure, match=said) as caught:
        check_platform(system, name, python)
    assert caught.value.exit_code == 4
    assert caught.value.why
    assert caught.value.next


def test_base_python_is_no_link() -> None:
    assert not base_python().is_symlink()
    command = [str(base_python()), "-c", "import sys; print(sys.prefix == sys.base_prefix)"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "True\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4),
        ({"/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, 4),
        ({"/sys/fs/cgroup/cpu.max": "900000 100000\n"}, 4),
        (
            {
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
    ],
)
def test_cpu_quota(files: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert cpu_count() == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4096),
        ({"/sys/fs/cgroup/memory.max": "3000", "/sys/fs/cgroup/memory.current": "1000"}, 2000),
        ({"/sys/fs/cgroup/memory.max": "max", "/sys/fs/cgroup/memory.current": "1000"}, 4096),
        ({"/sys/fs/cgroup/memory.max": "10", "/sys/fs/cgroup/memory.current": "20"}, 0),
    ],
)
def test_memory_limit(
    files: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:       4 kB\n"} | files
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
    assert memory_available() == expected


def test_disk(tmp_path: Path) -> None:
    free = disk_free(tmp_path / "not" / "yet" / "there")
    assert free > 0
    require_disk(tmp_path, 1, "nothing much")
    with pytest.raises(OutOfSpace, match=r"for the flood: need 1000000\.0 TB, have ") as caught:
        require_disk(tmp_path / "not", 10**18, "the flood")
    assert caught.value.exit_code == 9
    assert "store.gc" in caught.value.next


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (156_008_466, "156.0 MB"), (5 * 10**12, "5.0 TB")],
)
def test_human_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text


def test_unshare_takes_the_network_away() -> None:
    command = unshare_command()
    if command is None:
        pytest.skip("unshare is not allowed here")
    program = "import socket; print(sorted(name for _, name in socket.if_nameindex()))"
    done = subprocess.run([*command, sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    interfaces = done.stdout
    assert "eth" not in interfaces
    assert "'lo'" in interfaces
