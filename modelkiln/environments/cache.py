"""Environments: pinned sets of packages, installed once into a folder named by their digest.

An environment `NAME` is a folder docker/NAME/ with a lock (requirements.txt), its settings
(environment.toml) and a self-test (selftest.py). Installed, it lies in the cache as
environments/DIGEST/, shared between clones; a folder with that name is always whole.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelkiln.environments.environment import (
    DESCRIPTION,
    Environment,
    require_glibc,
    tools_digest,
)
from modelkiln.errors import EnvironmentFailure
from modelkiln.util.machine import check_platform

if TYPE_CHECKING:
    from modelkiln.util.console import OnProgress

_ROOM = "environments"
_TOOLS = "tools"


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An environment, or a folder of tools, that lies in the cache.

    Attributes:
        kind: `environment`, `tools`, or `unfinished`: left by an installation that was killed, or
            being made right now.
        used: Time of the last use, seconds since the epoch.
    """

    name: str
    kind: str
    digest: str
    folder: Path
    bytes: int
    used: float


def find(wanted: Environment, cache: Path) -> Path | None:
    """Return the Python of an installed environment, or None. Looks at nothing but its folder."""
    return _found(cache / _ROOM / wanted.digest)


def ensure(
    wanted: Environment, *, cache: Path, offline: bool = False, on_progress: "OnProgress"
) -> Path:
    """Install an environment where it is not yet; return its Python.

    It is made in a folder beside its place, tested there, and renamed. Whoever installs holds a
    lock; others wait, say for whom, and then use the result.

    Raises:
        EnvironmentFailure: The platform is another one, its glibc is too old, a package is
            unavailable or cannot be built, or the environment fails its self-test.
        PinError: A package differs from the lock.
        OutOfSpace: The disk has no room for it.
    """
    place = cache / _ROOM / wanted.digest
    python = _found(place)
    if python is None:
        from modelkiln.environments.install import install_environment

        check_platform()
        require_glibc(wanted)
        with _installing(place, on_progress, lambda: _found(place) is not None) as missing:
            if missing:
                install_environment(wanted, place, offline=offline, on_progress=on_progress)
        python = _found(place)
    if python is None:
        raise EnvironmentFailure(
            f"The {wanted.name} environment vanished after its installation.",
            "Something else removes folders from the cache.",
            "Run the same command again.",
        )
    _touch(place)
    return python


def ensure_tools(
    name: str,
    lock: Path,
    *,
    python: Path,
    cache: Path,
    offline: bool = False,
    on_progress: "OnProgress",
) -> Path:
    """Install a lock into a folder of its own, to be put on the PYTHONPATH beside an environment.

    The environment stays as its own lock says. Programs are in bin/ of the folder.

    Args:
        name: For people.
        lock: Hash-locked requirements, wheels only.
        python: Interpreter that will use them, made from the one that is running.

    Raises:
        EnvironmentFailure, PinError, OutOfSpace: As `ensure`.
    """
    place = cache / _TOOLS / tools_digest(lock)
    if not (place / DESCRIPTION).is_file():
        from modelkiln.environments.install import install_tools

        check_platform()
        with _installing(place, on_progress, (place / DESCRIPTION).is_file) as missing:
            if missing:
                install_tools(name, lock, python, place, offline=offline, on_progress=on_progress)
    _touch(place)
    return place


@contextlib.contextmanager
def in_use(wanted: Environment, *, cache: Path) -> Iterator[None]:
    """Keep an installed environment from being pruned for the length of a `with` block."""
    from modelkiln.util.flock import share

    with share(_lock(cache / _ROOM / wanted.digest)):
        yield


def list_environments(cache: Path) -> list[Installed]:
    """Return what is installed in the cache, last used first."""
    import json

    listed = []
    for kind, room in (("environment", _ROOM), ("tools", _TOOLS)):
        for folder in cache.glob(f"{room}/*/"):
            description = folder / DESCRIPTION
            try:
                name = str(json.loads(description.read_bytes())["name"])
                used = description.stat().st_mtime
            except (OSError, ValueError, KeyError, TypeError):
                name, used = "", 0.0
            whole = name and not folder.name.startswith(".")
            listed.append(
                Installed(
                    name=name or "unfinished",
                    kind=kind if whole else "unfinished",
                    digest=folder.name.removeprefix(".").partition("-")[0],
                    folder=folder,
                    bytes=_measure(folder),
                    used=used,
                )
            )
    return sorted(listed, key=lambda one: (-one.used, one.digest))


def prune(cache: Path, keep: Collection[str], *, dry_run: bool = False) -> list[Installed]:
    """Remove what is installed and not kept, and the installer's cache with it.

    What is in use, or being installed, stays.

    Args:
        keep: Digests that stay.
        dry_run: Only say what would go.

    Returns:
        What went.
    """
    import shutil

    from modelkiln.environments.install import remove
    from modelkiln.util.flock import Held, exclude

    gone = []
    for one in list_environments(cache):
        if one.digest in keep and one.kind != "unfinished":
            continue
        if not dry_run:
            place = one.folder.with_name(one.digest)
            try:
                with exclude(_lock(place), f"{one.folder} is in use."):
                    remove(one.folder)
            except Held:
                continue
        gone.append(one)
    if gone and not dry_run:
        shutil.rmtree(cache / "uv", ignore_errors=True)
    return gone


@contextlib.contextmanager
def _installing(place: Path, on_progress: "OnProgress", done: Callable[[], bool]) -> Iterator[bool]:
    """Hold the lock of a place; give whether it still is to be filled."""
    from modelkiln.util.flock import hold

    def tell(holder: object) -> None:
        on_progress(None, f"waiting for {holder}, which installs the same packages")

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailure(
            f"{place.parent} cannot be made.",
            str(error.strerror),
            "Set MODELKILN_CACHE to a folder that can be written.",
        ) from error
    with hold(_lock(place), on_wait=tell):
        yield not done()


def _found(place: Path) -> Path | None:
    python = place / "bin" / "python"
    # A link whose interpreter was removed since counts as missing.
    return python if (place / DESCRIPTION).is_file() and os.access(python, os.X_OK) else None


def _lock(place: Path) -> Path:
    return place.parent.parent / "locks" / f"{place.parent.name}-{place.name}.lock"


def _touch(place: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(place / DESCRIPTION)


def _measure(folder: Path) -> int:
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{parent}/{file}").st_size
    return total
