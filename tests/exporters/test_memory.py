"""Freed tensors do not stay with the process."""

import os
import subprocess
import sys

from tests.exporters.shrunken import ROOT

# 50 blocks of 8 MiB between small ones that live on, as a trace makes them.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from exporters.memory import return_freed_memory

if sys.argv[1] == "return":
    return_freed_memory()
np.ones(1 << 20)  # glibc learns from the first block that is freed
large, small = [], []
for _ in range(50):
    large.append(np.ones(1 << 20))
    small.append(bytearray(100_000))
del large
pages = int(Path("/proc/self/statm").read_text().split()[1])
print(pages * 4096)
"""


def _resident(how: str) -> int:
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        capture_output=True,
    )
    return int(done.stdout)


def test_freed_blocks_are_given_back() -> None:
    assert _resident("keep") - _resident("return") > 300 << 20
