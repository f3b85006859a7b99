"""Runs web/check.mjs as a user would."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelkiln.paths import REPOSITORY

WEB = REPOSITORY / "web"
OLDEST_NODE = 20


@dataclass(frozen=True, kw_only=True)
class Checked:
    """How web/check.mjs ended, and the line it printed."""

    status: int
    report: dict[str, Any]
    stderr: str


def find_obstacle() -> str:
    """Why web/check.mjs cannot run here, or nothing."""
    if not (node := shutil.which("node")):
        return "node is not installed"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        return f"node {version.strip()} is older than {OLDEST_NODE}"
    if not (WEB / "node_modules" / "onnxruntime-web").is_dir():
        return "onnxruntime-web is not installed: run npm ci --ignore-scripts in web/"
    return ""


def run_check(*arguments: str | Path) -> Checked:
    """Runs web/check.mjs, which prints at most one line."""
    done = subprocess.run(
        ["node", WEB / "check.mjs", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    lines = done.stdout.splitlines()
    assert len(lines) <= 1, done.stdout
    report = json.loads(lines[0]) if lines else {}
    return Checked(status=done.returncode, report=report, stderr=done.stderr)
