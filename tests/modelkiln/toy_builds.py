"""Builds of the toy family: their words, their folders, and checkpoints for its models."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelkiln.building.build import build
from modelkiln.building.dry_run import find_reasons
from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import make_plan, resolve_plan
from modelkiln.store.store import Store

Invoke = Callable[..., "subprocess.CompletedProcess[str]"]
RANDOM = ("--weights", "random")
TARGET = "toy_a/words/toy-text"


def folder(toy: Path, model: str = "toy_a", contract: str = "words") -> Path:
    return toy / "out" / f"{model}+random0" / contract / "toy-text"


def assert_sound(toy: Path) -> None:
    assert Store(toy).verify() == []
    assert not [one for one in (toy / "scratch").iterdir() if one.is_dir()]


def record_of(toy: Path, step: str) -> Any:
    record = Store(toy).latest(step)
    assert record is not None
    return record


def make_official(toy_copy: Path, mirror: Path, *models: str) -> None:
    """Give toy models checkpoints that can be had from a mirror."""
    mirror.mkdir()
    path = toy_copy / "models" / "toy.toml"
    text = path.read_text()
    for number, model in enumerate(models, start=1):
        content = model.encode()
        (mirror / f"{model}.pt").write_bytes(content)
        text = text.replace(str(number) * 64, hashlib.sha256(content).hexdigest())
        at = text.index(f"[models.{model}]")
        text = text[:at] + text[at:].replace(
            "checkpoint.bytes = 4", f"checkpoint.bytes = {len(content)}", 1
        )
    path.write_text(text)


def reasons(kiln: Kiln, text: str = TARGET) -> dict[str, list[str]]:
    """Why each stage of a target has to run."""
    resolved = resolve_plan(kiln, make_plan(kiln, kiln.targets(text)))
    return {name.rpartition("/")[2]: find_reasons(kiln, one) for name, one in resolved.items()}


def make(kiln: Kiln, text: str = TARGET) -> dict[str, float]:
    """Builds a target; returns how long each stage that ran took."""
    built = build(kiln, kiln.targets(text))
    kiln.save_caches()
    assert not built.failed
    return {name.rpartition("/")[2]: seconds for name, seconds in built.seconds.items()}
