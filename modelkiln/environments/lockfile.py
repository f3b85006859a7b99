"""Locks: requirements files of exact versions with hashes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelkiln.errors import EnvironmentFailure, PinError

_PACKAGE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}(?=\s|$)")


@dataclass(frozen=True, kw_only=True)
class Locked:
    """One package of a lock: its normalized name, its version, and its lines in the file."""

    name: str
    version: str
    text: str


def read_lock(path: Path) -> tuple[Locked, ...]:
    """Read a lock: a requirements file of exact versions, each with SHA-256 hashes.

    Raises:
        PinError: A line is no pinned package, or a package has no hash.
        EnvironmentFailure: The file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise EnvironmentFailure(
            f"The lock {path} cannot be read.", str(error.strerror), "Restore it with git."
        ) from error
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    entries = "\n".join(lines).replace("\\\n", " ").splitlines()
    locked: list[Locked] = []
    for entry in filter(str.strip, entries):
        found = _PACKAGE.match(entry)
        if not found or not _HASH.search(entry):
            raise PinError(
                f"{path} does not pin {entry.split()[0]!r}.",
                "Every package of a lock has one version and at least one SHA-256.",
                "Restore the lock with git, or make it again with the command in its first line.",
            )
        name = normalize(found[1])
        locked.append(Locked(name=name, version=found[2], text=entry))
    return tuple(locked)


def normalize(name: str) -> str:
    """Return the one spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_versions(said: str) -> dict[str, str]:
    """Return what the program `LIST_VERSIONS` said: versions by normalized name."""
    import json

    return {normalize(name): version for name, version in json.loads(said).items()}


def compare_versions(installed: Mapping[str, str], lock: Path) -> None:
    """Raise PinError where an environment does not hold the packages of a lock, and these alone."""
    locked = {one.name: one.version for one in read_lock(lock)}
    differing = sorted(locked.items() ^ installed.items())
    if differing:
        names = ", ".join(f"{name} {version}" for name, version in differing)
        raise PinError(
            f"What was installed is not what {lock} names.",
            f"In one and not in the other: {names}.",
            "Make the lock again with the command in its first line.",
        )
