"""Writes the table of engines into docs/tensorrt.md, from targets that are built.

    .venv/bin/python -m docs.draw_engines [--weights random] [--targets TARGETS]

What is not built is left out, and named by `invoke inspect`, which reads it. Random weights will
do: no figure depends on their values.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelkiln.report.engines import TITLES

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tensorrt.md"
BEGIN = "<!-- engines: begin"
END = "<!-- engines: end -->"
TARGETS = (
    "sam2.1_hiera_tiny/image/rtx-*",
    "sam2.1_hiera_tiny/treedect/rtx-*",
    "sam2.1_hiera_tiny/tracker/rtx-*",
    "sam2.1_hiera_tiny/tracker-ex/rtx-*",
    "sam2.1_hiera_tiny/tracker-ex@static/rtx-*",
    "dinov2_vits14/features/rtx-*",
    "dinov2_vits14/treedect-features/rtx-*",
)
# Columns of figures: to the right.
RIGHT = ("size", "activations", "weights", "layers")


def read_rows(documents: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return a row for each engine of what `invoke inspect TARGETS --json` prints."""
    return [
        (
            f"`{_without_weights(one['target'])}`",
            row["graph"],
            *(_megabytes(row[name]) for name in ("bytes", "activation_memory", "weights_memory")),
            str(row["layers"]),
            ", ".join(one["engines"]["gpus"]),
            "range" if row["shapes"] else "fixed",
            "yes" if row["same_bytes"] else "no",
        )
        for one in documents
        if one["engines"] is not None
        for row in one["engines"]["rows"]
    ]


def draw(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as Markdown.

    Raises:
        SystemExit: There is no engine in them, or they are of several versions of TensorRT.
    """
    rows = read_rows(documents)
    versions = {
        f"{one['engines']['title']} {one['engines']['version']}"
        for one in documents
        if one["engines"] is not None
    }
    if len(versions) != 1:
        found = ", ".join(sorted(versions)) or "none"
        raise SystemExit(f"These are engines of {found}; build them anew with one version.")
    rule = ["--:" if title in RIGHT else "---" for title in TITLES]
    lines = [f"| {' | '.join(cells)} |" for cells in (TITLES, *rows)]
    lines.insert(1, f"|{'|'.join(rule)}|")
    return "\n".join(
        [
            f"Engines of {versions.pop()}; sizes in MB. Activations and weights are what an engine "
            "takes of the GPU at its largest shapes.",
            "Same bytes: whether another build is promised to give them.",
            "",
            *lines,
        ]
    )


def replace_table(text: str, table: str) -> str:
    """Return a page with another table between its two markers.

    Raises:
        SystemExit: It does not have each of them once, in order.
    """
    found = re.findall(f"{re.escape(BEGIN)}.*?-->|{re.escape(END)}", text)
    if [one == END for one in found] != [False, True]:
        raise SystemExit(f"The page needs {BEGIN} ... --> and then {END}, each once.")
    before, _, rest = text.partition(found[0])
    after = rest.partition(END)[2]
    return f"{before}{found[0]}\n\n{table}\n\n{END}{after}"


def inspect(targets: str, *flags: str) -> list[Any]:
    """Return what `invoke inspect` says of one target or several, one document each.

    Raises:
        SystemExit: It fails, with its own words on standard error.
    """
    invoke = Path(sys.executable).parent / "invoke"
    done = subprocess.run(
        [invoke, "inspect", targets, "--json", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.returncode)
    told = json.loads(done.stdout)
    return told if isinstance(told, list) else [told]


def _without_weights(target: str) -> str:
    return re.sub(r"\+[^/]*", "", target, count=1)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f}"


def main() -> None:
    """Read the command line and write the page."""
    parser = argparse.ArgumentParser(description="Writes the table of engines.")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--weights", default="official")
    options = parser.parse_args()
    documents = inspect(options.targets, "--weights", options.weights)
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replace_table(text, draw(documents)), encoding="utf-8")
    print(f"{len(read_rows(documents))} engines of {len(documents)} targets")


if __name__ == "__main__":
    main()
