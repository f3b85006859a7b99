"""Environments: pinned sets of packages, what they are made from, and their identity."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkiln.errors import EnvironmentFailure, UsageError
from modelkiln.paths import REPOSITORY
from modelkiln.util.hashing import sha256_file, sha256_json
from modelkiln.util.machine import glibc_version, interpreter

if TYPE_CHECKING:
    from modelkiln.environments.base_images import BasePin

# Raised when an installation of the same lock comes out differently.
RECIPE = 1
# Likewise for images: what the builder is given besides, and the platforms of their packages.
IMAGE_RECIPE = 1
DESCRIPTION = "environment.json"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A pinned set of packages.

    Attributes:
        name: Such as `export`.
        lock: Hash-locked requirements.
        settings: What else decides the installation; see docker/export/environment.toml.
        selftest: Program that fails where the installed environment does not work.
        dockerfile: How it becomes an image; where there is none, it has no image.
    """

    name: str
    lock: Path
    settings: Path
    selftest: Path
    dockerfile: Path

    def image_identity(self, base: "BasePin") -> dict[str, str]:
        """Return what decides the files of its image; known without a container engine.

        Raises:
            EnvironmentFailure: A file is missing.
        """
        return {
            "dockerfile": _digest(self.dockerfile),
            "lock": _digest(self.lock),
            "settings": _digest(self.settings),
            "base": base.digest,
            "interpreter": base.interpreter,
            "recipe": str(IMAGE_RECIPE),
        }

    def image_digest(self, base: "BasePin") -> str:
        """Return the SHA-256 of the image's identity; its first half is the image's tag."""
        return sha256_json(self.image_identity(base))

    def identity(self) -> dict[str, str]:
        """Return what decides the installed files; part of the key of every step that runs there.

        Raises:
            EnvironmentFailure: A file is missing.
        """
        return dict(self._identity)

    @cached_property
    def base(self) -> str:
        """The name of the base in docker/pins.toml that its image stands on."""
        return str(self._settings.get("base", "python"))

    @cached_property
    def redistributable(self) -> bool:
        """Whether its packages may be handed on to others; where not, neither may its image."""
        return self._settings.get("redistributable", True) is True

    @cached_property
    def glibc(self) -> str:
        """The oldest glibc that its packages run on, such as `2.28`; empty where that is unknown.

        Its settings say it, else the platform for which `invoke pins.lock` chose its packages.

        Raises:
            EnvironmentFailure: The settings cannot be read, or name no version.
        """
        import re

        from modelkiln.environments.requirements import PLATFORM

        named = PLATFORM.rpartition("manylinux_")[2].replace("_", ".")
        known = named if self.lock.with_suffix(".in").is_file() else ""
        found = self._settings.get("glibc", known)
        if found and not re.fullmatch(r"\d+\.\d+", str(found), re.ASCII):
            raise EnvironmentFailure(
                f"{self.settings} cannot be used.",
                f"glibc is {found!r}, and no version such as '2.28'.",
                "Restore it with git.",
            )
        return str(found)

    @cached_property
    def _settings(self) -> Mapping[str, Any]:
        import tomllib

        try:
            return tomllib.loads(self.settings.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise EnvironmentFailure(
                f"{self.settings} cannot be used.", str(error), "Restore it with git."
            ) from error

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the identity, and the name of the folder."""
        return sha256_json(self._identity)

    @cached_property
    def _identity(self) -> Mapping[str, str]:
        return {
            "lock": _digest(self.lock),
            "settings": _digest(self.settings),
            "interpreter": interpreter().tag,
            "recipe": str(RECIPE),
        }


def environment(name: str, rooms: Path = REPOSITORY / "docker") -> Environment:
    """Return the environment that a folder of `rooms` describes.

    Raises:
        UsageError: There is none of that name.
    """
    room = rooms / name
    found = Environment(
        name=name,
        lock=room / "requirements.txt",
        settings=room / "environment.toml",
        selftest=room / "selftest.py",
        dockerfile=room / "Dockerfile",
    )
    if "/" in name or not found.lock.is_file():
        known = ", ".join(sorted(path.parent.name for path in rooms.glob("*/requirements.txt")))
        raise UsageError(
            f"There is no environment {name!r}.",
            f"The environments are: {known}.",
            "invoke env.list shows them.",
        )
    return found


def tools_digest(lock: Path) -> str:
    """Return the name of the folder that `ensure_tools` makes from a lock."""
    return sha256_json(tools_identity(lock))


def tools_identity(lock: Path) -> dict[str, str]:
    """Return what decides the files that `ensure_tools` installs."""
    return {"lock": _digest(lock), "interpreter": interpreter().tag, "recipe": str(RECIPE)}


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise EnvironmentFailure(
            f"{path} cannot be read.", str(error.strerror), "Restore it with git."
        ) from error


def require_dockerfile(one: Environment) -> None:
    """Raise EnvironmentFailure where an environment has no image."""
    if not one.dockerfile.is_file():
        raise EnvironmentFailure(
            f"The environment {one.name} is not available as an image.",
            f"There is no {one.dockerfile}.",
            "Build with --runner local, or add a Dockerfile beside its lock.",
        )


def require_glibc(one: Environment) -> None:
    """Raise EnvironmentFailure where an environment's packages want a newer glibc than there is."""
    have = glibc_version()
    if one.glibc and _numbers(have) < _numbers(one.glibc):
        raise EnvironmentFailure(
            f"The environment {one.name} needs glibc {one.glibc} or later; "
            f"this machine has {f'glibc {have}' if have else 'another C library'}.",
            "Its packages come compiled, for Linux with that C library.",
            "Build with --runner docker, whose image brings Debian 12's glibc 2.36; or use a newer "
            "system.",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split("."))) if version else ()
