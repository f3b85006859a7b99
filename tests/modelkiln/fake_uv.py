#!/usr/bin/env python3
"""Stands in for uv: makes environments that hold a package's metadata alone.

UV_FAKE says how it misbehaves; UV_FAKE_LOG names a file for its arguments and variables.
"""

import json
import os
import re
import sys
import time
from pathlib import Path

FAILURES = {
    "mismatch": "error: Hash mismatch for `small==1.0`",
    "network": "error: Failed to fetch: `https://index.example/small/` dns error",
    "full": "error: failed to write: No space left on device (os error 28)",
    "build": "error: Failed to build `small==1.0`",
}


def option(name: str) -> str:
    """The value after an option."""
    return sys.argv[sys.argv.index(name) + 1]


def make_venv(folder: Path, python: str) -> None:
    """What uv makes, and no more: Python's own way takes longer than the rest of a test."""
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(Path(python).resolve())
    home = Path(python).resolve().parent
    (folder / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")


def main() -> None:
    behaviour = os.environ.get("UV_FAKE", "")
    with Path(os.environ["UV_FAKE_LOG"]).open("a", encoding="utf-8") as log:
        log.write(json.dumps({"arguments": sys.argv[1:], "variables": dict(os.environ)}) + "\n")
    python = option("--python")
    if sys.argv[1] == "venv":
        folder = sys.argv[sys.argv.index(python) + 1]
        make_venv(Path(folder), python)
        return
    print("Downloading small (1.0MiB)", file=sys.stderr, flush=True)
    if behaviour == "hang":
        time.sleep(60)
    if behaviour in FAILURES:
        raise SystemExit(FAILURES[behaviour])
    if "--target" in sys.argv:
        site = Path(option("--target"))
    else:
        site = Path(python).parent.parent / "lib" / "python3.11" / "site-packages"
    pins = re.findall(r"^([\w-]+)==(\S+)", Path(option("-r")).read_text(), re.MULTILINE)
    for name, version in pins:
        info = site / f"{name}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        found = "9.9" if behaviour == "other" else version
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {found}\n")


if __name__ == "__main__":
    main()
