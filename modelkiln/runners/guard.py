"""Checks the seal from inside a container, then runs the stage and reports how it ended.

The runner mounts this file into the container and starts it with the stage's own Python: it uses
the standard library alone. What an engine was asked for is not taken on trust; a container that
sees a network, more files or more rights than it should never starts the stage.

Its one argument is JSON: `command` and `environment` of the stage, `uid`, `gpu`, `timeout_s`, and
`mounts`, the places where something of the host's may be mounted. Standard output carries the
stage's lines between two of the guard's own: the seal that was found, and the end.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

SCRATCH = "/scratch"
REFUSED = 78
# What engines mount on their own account, none of it the user's files.
_ENGINES_FILES = (
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/passwd",
    "/etc/group",
    "/run/.containerenv",
    "/sbin/docker-init",
    "/usr/sbin/docker-init",
    "/run/podman-init",
)
# Podman's, in memory, where the root is read-only.
_ENGINES_MEMORY = ("/run", "/var/tmp")
_ENGINES_ROOMS = ("/proc/", "/sys/", "/dev/")
# Fedora's Podman mounts it; what is in it would be the host's.
_SECRETS = "/run/secrets"
# Where the runtimes of GPUs put the driver's files.
_DRIVERS = (
    "/usr/lib/",
    "/usr/lib64/",
    "/lib/",
    "/lib64/",
    "/usr/bin/nvidia-",
    "/usr/local/nvidia/",
    "/usr/local/cuda/compat/",
    "/usr/share/nvidia/",
    "/usr/share/glvnd/",
    "/usr/share/egl/",
    "/usr/share/vulkan/",
    "/etc/vulkan/",
    "/etc/OpenCL/",
    "/run/nvidia-",
)
RIGHTS = ("CapEff", "CapPrm", "CapBnd", "CapAmb")
_WRITABLE = (SCRATCH, "/tmp", "/dev/shm", "/dev/mqueue")


def main() -> int:
    """Run the stage that the argument describes; 78 where the seal does not hold."""
    given = json.loads(sys.argv[1])
    seal, broken = judge(given, look())
    say({"guard": "seal", "seal": seal, "broken": broken})
    if broken:
        return REFUSED
    return supervise(given)


def look() -> dict[str, Any]:
    """Return what this process can see and do."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    places = mounted()
    return {
        "step": Path(SCRATCH, "step.json").is_file(),
        # Some kernels give every namespace devices that are down and that nobody here could raise.
        "networks": sorted(one.name for one in Path("/sys/class/net").iterdir() if is_up(one)),
        "ids": sorted({*os.getresuid()}),
        "rights": {name: int(status[name], 16) for name in RIGHTS},
        "no_new_privileges": status["NoNewPrivs"].strip() == "1",
        "seccomp": status.get("Seccomp", "0").strip() == "2",
        "root_read_only": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
        "places": places,
        "writable": [one for one in places if is_file(one) and os.access(one, os.W_OK)],
        "empty": [one for one in places if is_empty(one)],
        "gpus": sorted(one.name for one in Path("/dev").iterdir() if is_gpu(one.name)),
    }


def judge(given: dict[str, Any], seen: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the seal as the record tells it, and what of all that is seen should not be."""
    broken = []
    if not seen["step"]:
        broken.append("files: the engine does not see this machine's files")
    if set(seen["networks"]) - {"lo"}:
        broken.append(f"network: it has {', '.join(seen['networks'])}")
    if seen["ids"] != [given["uid"]] or 0 in seen["ids"]:
        broken.append(f"user: it runs as {seen['ids']}, not as {given['uid']}")
    if any(seen["rights"].values()):
        names = (name for name, held in seen["rights"].items() if held)
        broken.append(f"capabilities: {', '.join(names)}")
    if not seen["no_new_privileges"]:
        broken.append("privileges: new ones can be gained")
    if not seen["root_read_only"]:
        broken.append("files: the root is writable")
    expected = {*given["mounts"], *_WRITABLE, *_ENGINES_FILES, "/"}
    strange = [
        place
        for place, kind in seen["places"].items()
        if place not in expected
        and not is_engines(place, kind)
        and not (given["gpu"] and place.startswith(_DRIVERS))
        and not (place == _SECRETS and place in seen["empty"])
    ]
    if strange:
        broken.append(f"files: it sees {', '.join(strange)}")
    writable = [
        place
        for place in seen["writable"]
        if place not in _WRITABLE and not is_engines(place, seen["places"][place])
    ]
    if writable:
        broken.append(f"files: it can write {', '.join(writable)}")
    if given["gpu"] and not seen["gpus"]:
        broken.append("gpu: there is no device in the container")
    seal = {
        "network": "present" if set(seen["networks"]) - {"lo"} else "none",
        "uid": given["uid"],
        "seccomp": seen["seccomp"],
        "devices": seen["gpus"] if given["gpu"] else [],
    }
    return seal, broken


def is_up(device: Path) -> bool:
    """Return whether a network device could carry anything."""
    return bool(int((device / "flags").read_text(encoding="ascii"), 16) & 1)


def is_gpu(device: str) -> bool:
    """Return whether a device's name is an NVIDIA GPU's, or WSL's door to one."""
    return device.startswith("nvidia") or device == "dxg"


def is_file(place: str) -> bool:
    """Return whether it is a file or a folder: a driver's socket takes words, whoever may
    write it.
    """
    return Path(place).is_file() or Path(place).is_dir()


def is_empty(place: str) -> bool:
    """Return whether it is a folder with nothing in it."""
    with suppress(OSError):
        return not any(Path(place).iterdir())
    return False


def mounted() -> dict[str, str]:
    """Return the places where something is mounted, and the type of each file system."""
    found = {}
    for line in sorted(Path("/proc/self/mountinfo").read_bytes().splitlines()):
        place, _, kind = line.partition(b" - ")
        # The kernel writes blanks as octal numbers, and leaves other bytes as they are.
        name = re.sub(rb"\\([0-7]{3})", lambda one: bytes([int(one[1], 8)]), place.split(b" ")[4])
        found[os.fsdecode(name)] = kind.split(b" ")[0].decode()
    return found


def is_engines(place: str, kind: str) -> bool:
    """Return whether a place is in a file system of the kernel's, or in memory of the container's
    own.
    """
    if kind == "tmpfs" and place in _ENGINES_MEMORY:
        return True
    return f"{place}/".startswith(_ENGINES_ROOMS)


def supervise(given: dict[str, Any]) -> int:
    """Run the stage to its end, which comes at the latest after its time."""
    process = subprocess.Popen(
        given["command"],
        cwd=SCRATCH,
        env=given["environment"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    signal.signal(signal.SIGTERM, lambda *_: end(process.pid, signal.SIGTERM))
    # The runner ends what is overdue; this holds where nobody is left to do so.
    timer = threading.Timer(given["timeout_s"], end, (process.pid, signal.SIGKILL))
    timer.daemon = True
    timer.start()
    status = process.wait()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    end(process.pid, signal.SIGKILL)
    # The stage may have left a line without its end.
    sys.stdout.write("\n")
    say({"guard": "end", "status": status, "peak_rss": usage.ru_maxrss * 1024, "oom": oom_kills()})
    return status if status >= 0 else 128 - status


def end(pid: int, number: int) -> None:
    """Signal the stage and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def oom_kills() -> int:
    """Return how many processes of this container the kernel ended for want of memory."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        with suppress(OSError, ValueError):
            for line in Path(path).read_text(encoding="ascii").splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def say(news: dict[str, Any]) -> None:
    """Write one line on standard output."""
    sys.stdout.write(json.dumps(news) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
