"""What a command provides stages with: environments and tools, installed where they are not yet."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkiln.environments.cache import ensure, ensure_tools
from modelkiln.environments.environment import Environment, environment
from modelkiln.paths import REPOSITORY, catalog_folders
from modelkiln.util.console import show_progress

if TYPE_CHECKING:
    from modelkiln.environments.base_images import BasePin


@dataclass(frozen=True, kw_only=True)
class Provisioner:
    """Environments by name, and what they are made from and in.

    Attributes:
        cache: The folder of installed environments, wheels and checkpoints.
        offline: Whether nothing may be fetched.
        folders: Folders that hold an environment each, such as docker/; the first that has a name
            wins.
    """

    cache: Path
    offline: bool = False
    folders: tuple[Path, ...] = field(
        default_factory=lambda: (
            *(folder / "docker" for folder in catalog_folders()[1:]),
            REPOSITORY / "docker",
        )
    )

    def environment(self, name: str) -> Environment:
        """Return the environment of a name; one object a command, so that its files are read once.

        Raises:
            UsageError: There is none.
        """
        if name not in self._known:
            found = (one for one in self.folders if (one / name).is_dir())
            self._known[name] = environment(name, next(found, self.folders[-1]))
        return self._known[name]

    @cached_property
    def _known(self) -> dict[str, Environment]:
        return {}

    def environments(self) -> Iterator[Environment]:
        """Return every environment of these folders."""
        locks = [lock for room in self.folders for lock in sorted(room.glob("*/requirements.txt"))]
        for name in dict.fromkeys(lock.parent.name for lock in locks):
            yield self.environment(name)

    def base(self, one: Environment) -> "BasePin":
        """Return the base of an environment's image; PinError where it is not pinned."""
        from modelkiln.environments.base_images import load_base

        return load_base(one.base)

    def image_identity(self, one: Environment) -> dict[str, Any]:
        """Return what decides the files of an environment's image, its base included.

        Raises:
            PinError: The base is not pinned.
            EnvironmentFailure: A file is missing.
        """
        return one.image_identity(self.base(one))

    def python(self, name: str) -> Path:
        """Return the interpreter of an environment, installed where it is not yet.

        Raises:
            EnvironmentFailure, PinError, OutOfSpace: It cannot be installed.
        """
        with show_progress(f"environment {name}") as on_progress:
            return ensure(
                self.environment(name),
                cache=self.cache,
                offline=self.offline,
                on_progress=on_progress,
            )

    def tools(self, name: str, lock: Path, python: Path) -> Path:
        """Return the folder of a lock's packages, for the PYTHONPATH of `python`; errors as
        `python`.
        """
        with show_progress(f"tools {name}") as on_progress:
            return ensure_tools(
                name,
                lock,
                python=python,
                cache=self.cache,
                offline=self.offline,
                on_progress=on_progress,
            )
