"""Environments and tools got ready, with progress shown; silent where they are there already."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modelkiln.building.kiln import Kiln
from modelkiln.environments.cache import ensure, ensure_tools
from modelkiln.fetch.download import OnProgress
from modelkiln.util import console

if TYPE_CHECKING:
    from modelkiln.containers.engine import Engine


def get_python(kiln: Kiln, name: str) -> Path:
    """The interpreter of an environment, installed where it is not yet.

    Raises:
        EnvironmentFailure, PinError, OutOfSpace: It cannot be installed.
    """
    with show_progress(f"environment {name}") as on_progress:
        return ensure(
            kiln.environment(name),
            cache=kiln.cache,
            offline=kiln.options.offline,
            on_progress=on_progress,
        )


def get_image(kiln: Kiln, engine: "Engine", name: str) -> str:
    """The id of an environment's image, built where it is not there.

    Raises:
        EnvironmentFailure, PinError, OutOfSpace, NotReproducible: It cannot be had.
    """
    from modelkiln.containers.images import ensure_image

    environment = kiln.environment(name)
    with show_progress(f"image {name}") as on_progress:
        return ensure_image(
            engine,
            environment,
            kiln.base(environment),
            cache=kiln.cache,
            offline=kiln.options.offline,
            on_progress=on_progress,
        ).id


def get_tools(kiln: Kiln, name: str, lock: Path, python: Path) -> Path:
    """The folder of a lock's packages, for the PYTHONPATH of `python`; errors as `get_python`."""
    with show_progress(f"tools {name}") as on_progress:
        return ensure_tools(
            name,
            lock,
            python=python,
            cache=kiln.cache,
            offline=kiln.options.offline,
            on_progress=on_progress,
        )


@contextmanager
def show_progress(job: str) -> Iterator[OnProgress]:
    """A board with one job, which appears with its first news."""
    started = False
    with console.open_board() as board:

        def on_progress(share: float | None, text: str) -> None:
            nonlocal started
            if not started:
                board.start(job, text)
                started = True
            board.update(job, share, text)

        yield on_progress
        if started:
            board.end(job, f"ready  {job}")
