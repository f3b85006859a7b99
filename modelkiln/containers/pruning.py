"""The images that modelkiln made on an engine, and the removal of those that nobody needs."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import docker
import requests

from modelkiln.containers.bases import name_on
from modelkiln.containers.engine import Engine, explain
from modelkiln.containers.images import BUILD_LABEL, LABEL, forget, lock_of, sweep
from modelkiln.util.flock import Held, exclude

_PREFIX = "modelkiln/"


class Kind(StrEnum):
    """What an image is to us."""

    ENVIRONMENT = "environment"
    BASE = "base"
    LEFTOVER = "leftover"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An image on an engine.

    Attributes:
        name: Its name there; empty where a build that failed left it.
        digest: Of all that went into it, as far as its labels say.
        bytes: Its size, with what it shares with others.
        created: Seconds since the epoch.
    """

    name: str
    kind: Kind
    id: str
    digest: str
    bytes: int
    created: int


def list_images(engine: Engine) -> list[Listed]:
    """Return what modelkiln made on an engine, newest first.

    Raises:
        EnvironmentFailure: The engine fails.
    """
    try:
        found = engine.client.api.images(all=False)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise explain(error, "listing images") from error
    listed = [one for image in found for one in _describe(engine, image)]
    return sorted(listed, key=lambda one: (-one.created, one.name, one.id))


def prune_images(
    engine: Engine,
    keep: Collection[str],
    *,
    cache: Path,
    everything: bool = False,
    dry_run: bool = False,
) -> list[Listed]:
    """Remove images that modelkiln made and nobody needs; returns what went.

    What a container uses, or is being built, stays.

    Args:
        keep: Names that stay.
        everything: Remove these too, and what is on record of them.
        dry_run: Only say what would go.

    Raises:
        EnvironmentFailure: The engine fails.
    """
    gone = []
    for one in list_images(engine):
        if one.name in keep and not everything:
            continue
        if dry_run or _remove(engine, one, cache):
            gone.append(one)
            if everything and not dry_run and one.digest:
                forget(one.digest, cache)
    return gone


def _describe(engine: Engine, image: dict[str, Any]) -> Iterator[Listed]:
    labels = image.get("Labels") or {}
    prefix = name_on(engine.kind, _PREFIX)
    tags = [tag for tag in image.get("RepoTags") or () if tag != "<none>:<none>"]
    ours = [tag for tag in tags if tag.startswith(prefix)]
    digest = str(labels.get(LABEL) or labels.get(BUILD_LABEL) or "")
    if not ours and (tags or not digest):
        return
    for name in ours or [""]:
        kind = Kind.BASE if name.startswith(f"{prefix}base:") else Kind.ENVIRONMENT
        yield Listed(
            name=name,
            kind=kind if name else Kind.LEFTOVER,
            id=str(image["Id"]),
            digest=digest,
            bytes=int(image["Size"]),
            created=int(image["Created"]),
        )


def _remove(engine: Engine, one: Listed, cache: Path) -> bool:
    try:
        if not one.digest:
            engine.client.images.remove(one.name)
            return True
        with exclude(lock_of(one.digest, cache), f"{one.name or one.id} is being built."):
            if one.name:
                with suppress(docker.errors.ImageNotFound):
                    engine.client.images.remove(one.name)
            # It takes what has no name; Podman removes nothing by its id.
            sweep(engine, one.digest)
            return True
    except Held:
        return False
    except docker.errors.APIError as error:
        # A container uses it.
        if error.status_code == 409:
            return False
        raise explain(error, "removing an image") from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise explain(error, "removing an image") from error
