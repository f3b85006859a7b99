"""Jobs whose stage is a few lines of a test's; it needs nothing but Python."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

from modelkiln.paths import REPOSITORY
from modelkiln.runners.job import Job

WRITE = "(step.out / 'out.txt').write_text('done')\n"


def make_job(
    folder: Path,
    body: str,
    inputs: Mapping[str, str] | None = None,
    *,
    timeout_s: int = 60,
    gpu: bool = False,
) -> Job:
    """A job whose stage has this body of `run(step)`; it should write `out.txt`.

    Args:
        folder: Takes the stage's source and its inputs.
        inputs: Content of each input, by name.
    """
    source = folder / "stage.py"
    source.write_text(
        "import json, os, pathlib, socket, subprocess, sys, time\n"
        "from exporters.protocol import Result, StageError, report_progress\n"
        "def run(step):\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
        + "\n    return Result(outputs=['out.txt'], metrics={'answer': 42})\n"
    )
    files = {}
    for name, text in (inputs or {}).items():
        files[name] = folder / name
        files[name].write_text(text)
    room = REPOSITORY / "exporters"
    return Job(
        name="toy/stage",
        key="0" * 64,
        environment="bare",
        stage="stage",
        modules=("exporters.stage",),
        params={"one": 1},
        inputs=files,
        sources={
            "exporters/__init__.py": room / "__init__.py",
            "exporters/__main__.py": room / "__main__.py",
            "exporters/protocol.py": room / "protocol.py",
            "exporters/stage.py": source,
        },
        threads=2,
        seed=0,
        timeout_s=timeout_s,
        cpus=1,
        memory=100_000_000,
        gpu=gpu,
    )
