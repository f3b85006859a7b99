"""Models: a checkpoint's pin, where upstream has it, and the settings of its architecture."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A published checkpoint: accepted only with this size (bytes) and SHA-256 (hex)."""

    file: str
    url: str
    bytes: int
    sha256: str
    license: str


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The package that defines a family, and the patches that the export stage applies to a copy.

    Attributes:
        digest: SHA-256 over the package's sources, checked inside the stage before it is used.
        patches: Folder with `series` and the patches, or None.
    """

    package: str
    version: str
    digest: str
    patches: Path | None


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint by its upstream name."""

    name: str
    family: str
    package: str
    environment: str
    license: str
    upstream: Upstream
    checkpoint: Checkpoint
    settings: Mapping[str, Any]
