"""modelkiln.util.machine: what is read from the system, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelkiln.errors import EnvironmentFailure, OutOfSpace
from modelkiln.util import machine
from modelkiln.util.machine import (
    Probe,
    base_python,
    check_platform,
    cpu_count,
    describe_cpu,
    disk_free,
    glibc_version,
    gpu_identity,
    interpreter,
    memory_available,
    probe_command,
    probe_gpu,
    require_disk,
    require_gpu,
    unshare_command,
)


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


def test_a_gpu_is_its_name_and_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program = tmp_path / "nvidia-smi"
    try:
        gpu_identity.cache_clear()
        assert gpu_identity() == ""
        program.write_text("#!/bin/sh\necho 'NVIDIA H200, 570.1, 9.0'\n")
        program.chmod(0o755)
        gpu_identity.cache_clear()
        assert gpu_identity() == "NVIDIA H200, 570.1"
    finally:
        gpu_identity.cache_clear()


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


V2 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
V3 = f"{V2} abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"
V4 = f"{V3} avx512bw avx512cd avx512dq avx512f avx512vl"


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("fpu sse2", "x86-64"),
        (V2, "x86-64-v2"),
        (V3, "x86-64-v3"),
        (V3.replace("fma", ""), "x86-64-v2"),
        (V4, "x86-64-v4"),
        # A level counts only on top of those below it.
        (V4.replace("avx2", ""), "x86-64-v2"),
        (f"amx_int8 {V4} avx512_vnni avx_vnni", "x86-64-v4 avx_vnni avx512_vnni amx_int8"),
        (f"{V3} avx_vnni", "x86-64-v3 avx_vnni"),
    ],
)
def test_what_a_processor_can_do(flags: str, level: str) -> None:
    info = f"processor : 0\nmodel name : a fma\nflags\t\t: {flags}\nvmx flags : fma\n"
    assert describe_cpu(info + "\nprocessor : 1\nflags : amx_int8\n") == level


def test_a_gpu_is_missed_only_where_there_is_none() -> None:
    require_gpu(True, "a step")
    with pytest.raises(EnvironmentFailure, match="no GPU for a step") as caught:
        require_gpu(False, "a step")
    assert caught.value.exit_code == 4


def test_probe_of_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not probe_gpu().found
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 570.1, 9.0'\n")
    program.chmod(0o755)
    assert probe_gpu() == Probe(found=True, detail="NVIDIA H200, 570.1, 9.0")
    program.write_text("#!/bin/sh\necho 'no driver' >&2\nexit 9\n")
    assert probe_command("nvidia-smi") == Probe(found=False, detail="nvidia-smi failed: no driver")


def test_the_c_library_is_the_one_that_python_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import platform

    assert glibc_version() == platform.libc_ver()[1]

    def musl(_: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", musl)
    assert glibc_version() == ""
