"""Fills the folder of an environment, or of tools: made beside its place, tested, renamed."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelkiln.environments.environment import DESCRIPTION, Environment, tools_identity
from modelkiln.environments.lockfile import compare_versions, parse_versions, read_lock
from modelkiln.environments.requirements import require_fresh
from modelkiln.environments.uv import Installer
from modelkiln.errors import EnvironmentFailure, OutOfSpace, PinError
from modelkiln.util.console import OnProgress
from modelkiln.util.machine import base_python, require_disk
from modelkiln.util.units import human_bytes

_TOOLS_BYTES = 500_000_000
# A program for the Python of an environment, which says what is installed there.
LIST_VERSIONS = (
    "import importlib.metadata as m, json;"
    "print(json.dumps({d.name: d.version for d in m.distributions()}))"
)


def install_environment(
    wanted: Environment, place: Path, *, offline: bool, on_progress: OnProgress
) -> None:
    """Install an environment at `place`, whose lock is held.

    Raises:
        EnvironmentFailure, PinError, OutOfSpace: As `modelkiln.environments.cache.ensure`.
    """
    require_fresh(wanted.lock.parent)
    locked = read_lock(wanted.lock)
    settings = read_settings(wanted.settings)
    purpose = f"the {wanted.name} environment"
    require_disk(place, settings.bytes + settings.bytes // 5, purpose)
    size = human_bytes(settings.bytes)
    on_progress(None, f"installing {purpose}: {len(locked)} packages, {size}")
    installer = _installer(place, offline, on_progress, settings)
    with making(place, wanted.name, wanted.identity(), installer.log) as made:
        python = made / "bin" / "python"
        installer.make_environment(made, base_python())
        installer.install([one for one in locked if one.name in settings.seed], python)
        installer.install(locked, python)
        on_progress(None, f"testing {purpose}")
        if replace(wanted).digest != wanted.digest:
            raise PinError(
                f"The files of {purpose} changed while it was installed.",
                f"Somebody edited {wanted.lock.parent}.",
                "Run the same command again.",
            )
        said = _call([str(python), "-I", "-c", LIST_VERSIONS], "The new environment is broken.")
        compare_versions(parse_versions(said), wanted.lock)
        _test(wanted, python)


def install_tools(
    name: str, lock: Path, python: Path, place: Path, *, offline: bool, on_progress: OnProgress
) -> None:
    """Install the packages of a lock at `place`, whose lock is held.

    Raises:
        EnvironmentFailure, PinError, OutOfSpace: As `modelkiln.environments.cache.ensure_tools`.
    """
    locked = read_lock(lock)
    require_disk(place, _TOOLS_BYTES, name)
    on_progress(None, f"installing {name}: {len(locked)} packages")
    installer = _installer(place, offline, on_progress, Settings())
    with making(place, name, tools_identity(lock), installer.log) as made:
        installer.install(locked, python, target=made)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What environment.toml says.

    Attributes:
        bytes: Size of the installation.
        seed: Packages that are installed first: what those that come as source are built with.
        variables: What these see while they are built.
    """

    bytes: int = 0
    seed: frozenset[str] = frozenset()
    variables: Mapping[str, str] = field(default_factory=dict)


def read_settings(path: Path) -> Settings:
    """Read an environment.toml; EnvironmentFailure where it is none."""
    import tomllib

    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
        return Settings(
            bytes=int(read["bytes"]),
            seed=frozenset(map(str, read["seed"])),
            variables={str(name): str(value) for name, value in read["variables"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EnvironmentFailure(
            f"{path} cannot be used.", repr(error), "Restore it with git."
        ) from error


def _installer(
    place: Path, offline: bool, on_progress: OnProgress, settings: Settings
) -> Installer:
    log = place.with_suffix(".log")
    log.unlink(missing_ok=True)
    return Installer(
        log=log,
        cache=place.parent.parent / "uv",
        offline=offline,
        on_progress=on_progress,
        variables=settings.variables,
        bytes=settings.bytes,
    )


@contextlib.contextmanager
def making(place: Path, name: str, identity: Mapping[str, str], log: Path) -> Iterator[Path]:
    """Give an empty folder beside a place whose lock is held; when filled, rename it there."""
    import errno
    import json

    for left in place.parent.glob(f".{place.name}-*"):
        remove(left)
    made = place.parent / f".{place.name}-{os.getpid()}"
    try:
        made.mkdir()
        yield made
        description = {"name": name, "identity": dict(identity)}
        with (made / DESCRIPTION).open("w", encoding="utf-8") as file:
            json.dump(description, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        if place.exists():
            remove(place)
        made.rename(place)
        log.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutOfSpace(
            f"The disk is full: {name} cannot be installed.",
            f"The filesystem that holds {place.parent} has no room left.",
            "Free some with invoke env.prune, or set MODELKILN_CACHE to a folder on another disk.",
        ) from error
    finally:
        remove(made)


def remove(folder: Path) -> None:
    """Take a folder away under its name at once, then remove it."""
    import shutil

    if folder.name.startswith("."):
        shutil.rmtree(folder, ignore_errors=True)
        return
    aside = folder.parent / f".{folder.name}-gone-{os.getpid()}"
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _test(wanted: Environment, python: Path) -> None:
    _call(
        [str(python), "-I", str(wanted.selftest)],
        f"The {wanted.name} environment fails its self-test.",
    )


def _call(command: Sequence[str], failed: str) -> str:
    import subprocess
    import tempfile

    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="modelkiln-") as home:
        done = subprocess.run(
            command,
            cwd=home,
            env=kept | {"HOME": home},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    if done.returncode != 0:
        raise EnvironmentFailure(
            failed,
            "\n".join(done.stderr.strip().splitlines()[-8:]) or f"It ended with {done.returncode}.",
            "invoke doctor looks for the cause.",
        )
    return done.stdout
