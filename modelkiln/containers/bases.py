"""The base images on an engine: found by digest, pulled by digest where they are missing."""

from contextlib import suppress

import docker
import requests
from docker.models.images import Image as EngineImage

from modelkiln.containers.engine import Engine, explain
from modelkiln.environments.base_images import VARIABLE, BasePin
from modelkiln.errors import EnvironmentFailure, KilnError, OutOfSpace
from modelkiln.util.console import OnProgress

_LOCAL = "localhost/"
_ASK_S = 10
_UNKNOWN = ("manifest unknown", "name unknown", "not found", "404", "does not exist", "denied")
_NEXT = (
    "Make a base out of Debian's packages (.ci/base.sh FILE, then export "
    f"{VARIABLE}=FILE), or build with --runner local."
)


def name_on(kind: str, name: str) -> str:
    """Return an image's name as engines of a kind keep it: Podman puts its own host before short
    ones.
    """
    return name if kind == "docker" else f"{_LOCAL}{name}"


def base_name(base: BasePin) -> str:
    """Return the name that a base gets on an engine; pinned and local ones then look alike to
    builders.
    """
    return f"modelkiln/base:{base.digest.partition(':')[2][:12]}"


def find_base(engine: Engine, base: BasePin) -> EngineImage | None:
    """Return a base image that the engine has: by its id, or by the digest under which it was
    pulled.
    """
    for name in (base.digest, f"{base.image}@{base.digest}"):
        with suppress(docker.errors.ImageNotFound, docker.errors.APIError):
            found = engine.client.images.get(name)
            digests = {one.partition("@")[2] for one in found.attrs.get("RepoDigests") or ()}
            if base.digest in {_full(str(found.id)), *digests}:
                return found
    return None


def find_base_obstacle(engine: Engine, base: BasePin, *, offline: bool) -> str:
    """Say why a base image is unavailable, or nothing where it is not; nothing is pulled."""
    if find_base(engine, base) is not None:
        return ""
    if base.image.startswith(_LOCAL):
        return f"its base {base.image}:{base.tag} is not on it"
    if offline:
        return f"its base {base.image}:{base.tag} is not on it, and --offline was given"
    try:
        known = _is_in_registry(engine, base)
    except (docker.errors.DockerException, requests.RequestException):
        return f"the registry of its base {base.image}:{base.tag} cannot be reached"
    return "" if known else f"the registry does not know its base {base.reference}"


def ensure_base(
    engine: Engine, base: BasePin, *, offline: bool, on_progress: OnProgress
) -> tuple[str, tuple[str, ...]]:
    """Return a name for a base image on the engine, pulled where it is not there; and its layers.

    Raises:
        EnvironmentFailure: It is not there and cannot be pulled.
        OutOfSpace: The engine's disk is full.
    """
    found = find_base(engine, base)
    if found is None:
        if offline or base.image.startswith(_LOCAL):
            why = (
                "--offline was given, so nothing was downloaded."
                if offline
                else "Its pin is the id of an image made locally; it was removed since, or is on "
                "another engine."
            )
            raise EnvironmentFailure(f"The base image {base.reference} is not here.", why, _NEXT)
        _pull(engine, base, on_progress)
        found = find_base(engine, base)
    if found is None:
        raise EnvironmentFailure(
            f"The base image {base.reference} was pulled and is not there.",
            f"{engine} does not tell the digest under which it keeps the image.",
            _NEXT,
        )
    name = name_on(engine.kind, base_name(base))
    found.tag(*name.rsplit(":", 1))
    return name, tuple(found.attrs["RootFS"]["Layers"])


def _is_in_registry(engine: Engine, base: BasePin) -> bool:
    if engine.kind == "podman":
        from modelkiln.fetch.registry import NotAsked, find_digest, find_repository

        try:
            repository = find_repository(base.image)
            return find_digest(repository, base.digest, timeout=_ASK_S) is not None
        except NotAsked as error:
            raise docker.errors.DockerException(str(error)) from error
    client = docker.APIClient(base_url=engine.host, version="auto", timeout=_ASK_S)
    try:
        client.inspect_distribution(f"{base.image}@{base.digest}")  # type: ignore[no-untyped-call]
    except docker.errors.APIError as error:
        if _is_unknown(str(error)):
            return False
        raise
    finally:
        client.close()
    return True


def _pull(engine: Engine, base: BasePin, on_progress: OnProgress) -> None:
    on_progress(None, f"pulling the base image {base.reference}")
    try:
        for news in engine.client.api.pull(
            base.image, tag=base.digest, stream=True, decode=True, platform="linux/amd64"
        ):
            if "error" in news:
                raise docker.errors.APIError(str(news["error"]))
            if news.get("status"):
                on_progress(None, f"base image: {news['status']} {news.get('progress', '')}")
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise explain_pull(error, base) from error


def explain_pull(error: Exception, base: BasePin) -> KilnError:
    """Return the error of a base that cannot be pulled."""
    told = explain(error, "pulling a base image")
    if isinstance(told, OutOfSpace) or not isinstance(error, docker.errors.DockerException):
        return told
    said = str(getattr(error, "explanation", "") or error).strip()[-400:]
    if _is_unknown(said):
        return EnvironmentFailure(
            f"The registry does not know the base image {base.reference}.",
            f"Its digest was mistyped, or the image was removed: {said}",
            f"invoke pins.check compares the pins with the registry. {_NEXT}",
        )
    return EnvironmentFailure(
        f"The base image {base.reference} cannot be pulled.",
        f"Most often its registry cannot be reached from here: {said}",
        f"Give the engine its proxy and certificates, or docker load the image. {_NEXT}",
    )


def _is_unknown(said: str) -> bool:
    lower = said.lower()
    # A host that no name server knows is "not found" as well.
    if "dial tcp" in lower or "lookup" in lower:
        return False
    return any(sign in lower for sign in _UNKNOWN)


def _full(identity: str) -> str:
    return identity if identity.startswith("sha256:") else f"sha256:{identity}"
