"""Which process a container belongs to, and the end of those whose process is gone."""

import os
import signal
import subprocess
from pathlib import Path

from modelkiln.containers.owner import is_alive, this_process


def test_a_process_is_told_from_another_with_its_number() -> None:
    boot, space, pid, started = this_process().split(":")
    assert is_alive(this_process())
    assert not is_alive(f"{boot}:{space}:{pid}:{int(started) + 1}")
    assert not is_alive(f"another-boot:{space}:{pid}:{started}")
    assert is_alive(f"{boot}:1:{pid}:{started}"), "another process namespace is not ours to judge"
    assert not is_alive("")
    child = subprocess.Popen(["sleep", "60"])
    name = f"{boot}:{space}:{child.pid}:" + Path(f"/proc/{child.pid}/stat").read_text().split()[21]
    assert is_alive(name)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(name), "a zombie counts as gone"
    child.wait()
