"""What BuildKit remembers of a build: three times the image's size, which nobody asks for again.

The name of an image follows from all that goes into it, so only another build of the same image
could use it, and that one is there already.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import docker
import requests

from modelkiln.containers.engine import Engine

# What others build at the same time is mostly smaller, and is only built again if it is taken.
_LARGE = 50_000_000


@contextmanager
def forgotten(engine: Engine) -> Iterator[None]:
    """Remove the large things from the builder's cache that came in during a `with` block."""
    before = _list_entries(engine)
    try:
        yield
    finally:
        # Where it is not known what was there, everything stays.
        known = None if before is None else {str(one["ID"]) for one in before}
        found = _list_entries(engine) if known is not None else None
        for entry in _select(found or [], known or set()):
            with suppress(docker.errors.DockerException, requests.RequestException):
                filters: Any = {"id": entry}
                engine.client.api.prune_builds(filters=filters, all=True)


def _list_entries(engine: Engine) -> list[dict[str, Any]] | None:
    try:
        return list(engine.client.api.df().get("BuildCache") or ())
    except (docker.errors.DockerException, requests.RequestException):
        return None


def _select(entries: list[dict[str, Any]], before: Collection[str]) -> list[str]:
    """Return the large entries that are new, and those that stand on them; these first."""
    entries = sorted(entries, key=lambda one: str(one["CreatedAt"]))
    chosen: list[str] = []
    for one in entries:
        parents = {str(one.get("Parent")), *map(str, one.get("Parents") or ())}
        large = int(one["Size"]) >= _LARGE and one["ID"] not in before
        if not one["InUse"] and (large or not parents.isdisjoint(chosen)):
            chosen.append(str(one["ID"]))
    return chosen[::-1]
