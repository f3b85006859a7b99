"""Builds of the toy family: their words, their folders, and checkpoints for its models."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
