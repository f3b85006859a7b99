"""What a stage is given and what it hands back.

A stage is a module with `run(step: Step) -> Result`. The runner writes `step.json` into a scratch
folder, starts `python -m exporters step.json` there, and reads `result.json` or `error.json`.
Standard output carries progress as JSON lines and nothing else; the log is standard error.
"""

import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

PROTOCOL: Final = 1

BAD_INPUT: Final = 2
ENVIRONMENT_MISSING: Final = 4
STAGE_FAILED: Final = 5
NOT_VERIFIED: Final = 6
OUT_OF_MEMORY: Final = 9


class StageError(Exception):
    """A failure that a user can act on: what happened, why (most likely), what to run next.

    Each of the three is a sentence; what another program says is introduced by its name.
    """

    def __init__(self, what: str, why: str, next: str, exit_code: int = STAGE_FAILED) -> None:  # noqa: A002
        super().__init__(what)
        self.what = what
        self.why = why
        self.next = next
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.what} {self.why} Next: {self.next}"


def as_sentence(text: str) -> str:
    """Return words as a sentence of an error: with a capital letter, and a full stop at the end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage with its inputs and parameters filled in.

    `inputs` maps names, which may contain slashes, to files; `out` is an empty folder that takes
    the outputs; `modules` are the stage's own module and then those of the family.
    """

    step: str
    stage: str
    modules: tuple[str, ...]
    params: Mapping[str, Any]
    inputs: Mapping[str, Path]
    out: Path
    threads: int
    seed: int

    def input(self, name: str) -> Path:
        """Return the file of an input; an input that was not given is a fault of the plan."""
        try:
            return self.inputs[name]
        except KeyError:
            raise StageError(
                f"{self.step} was not given its input {name}.",
                f"It has {', '.join(sorted(self.inputs)) or 'none'}.",
                "Report this as a fault of the plan.",
            ) from None

    def param(self, name: str) -> Any:
        """Return a parameter by its name; one that is missing is a fault of the plan."""
        try:
            return self.params[name]
        except KeyError:
            raise StageError(
                f"{self.step} was not given its parameter {name}.",
                f"It has {', '.join(sorted(self.params)) or 'none'}.",
                "Report this as a fault of the plan.",
            ) from None

    def provider(self) -> ModuleType:
        """Return the family's part of the stage: the second module that the step names."""
        if len(self.modules) < 2:
            raise StageError(
                f"{self.step} names no module of a family.",
                f"The stage {self.stage} needs one.",
                "Report this as a fault of the plan.",
            )
        return importlib.import_module(self.modules[1])


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a stage made: names under `out/`, and figures for reports."""

    outputs: Sequence[str]
    metrics: Mapping[str, Any] = field(default_factory=dict)


def report_progress(fraction: float | None, message: str) -> None:
    """Tell the runner how far the stage is; `fraction` is 0 to 1, or None when it cannot know."""
    line = json.dumps({"progress": fraction, "message": message})
    stream = _progress_stream or sys.stdout
    stream.write(line + "\n")
    stream.flush()


def claim_stdout() -> None:
    """Keep standard output for progress: what libraries print goes to standard error instead."""
    global _progress_stream
    if _progress_stream is None:
        _progress_stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)


def read_step(path: Path) -> Step:
    """Read `step.json`; inputs are taken relative to its folder, and `out` lies beside it."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.get("protocol") != PROTOCOL:
        raise StageError(
            f"{path.name} speaks protocol {document.get('protocol')}, not {PROTOCOL}.",
            "The orchestrator and the stages are of different versions.",
            "Check out one version of the whole repository.",
        )
    folder = path.resolve().parent
    return Step(
        step=document["step"],
        stage=document["stage"],
        modules=tuple(document["modules"]),
        params=document["params"],
        inputs={name: folder / file for name, file in sorted(document["inputs"].items())},
        out=folder / "out",
        threads=int(document["threads"]),
        seed=int(document["seed"]),
    )


def write_json(path: Path, document: object) -> None:
    """Write JSON with sorted keys so that the file appears whole or not at all."""
    text = json.dumps(document, sort_keys=True, indent=1, allow_nan=False) + "\n"
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


_progress_stream: Any = None
