"""Images of environments: built once, named by the digest of all that goes into them.

The first build of an image is on record, with its layers. An image is used when it has the name and
these layers; so one that was altered, or that somebody else gave the name, is noticed.
"""

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests

from modelkiln.containers.bases import ensure_base, find_base_obstacle, name_on
from modelkiln.containers.builders import Builder, BuildFailed, Request, find_builder
from modelkiln.containers.context import make_context
from modelkiln.containers.engine import Engine, explain
from modelkiln.containers.progress import BuildProgress
from modelkiln.containers.trial import try_image
from modelkiln.containers.wheelhouse import fetch, is_whole
from modelkiln.environments.base_images import BasePin
from modelkiln.environments.environment import Environment
from modelkiln.environments.install import read_settings
from modelkiln.environments.requirements import require_fresh
from modelkiln.errors import (
    EnvironmentFailure,
    KilnError,
    NotReproducible,
    OutOfSpace,
    PinError,
)
from modelkiln.util import console
from modelkiln.util.atomic import write_file
from modelkiln.util.console import OnProgress
from modelkiln.util.flock import hold
from modelkiln.util.hashing import sha256_file
from modelkiln.util.machine import disk_free, require_disk
from modelkiln.util.units import human_bytes

LABEL = "io.modelkiln.image"
ENVIRONMENT_LABEL = "io.modelkiln.environment"
BUILD_LABEL = "io.modelkiln.building.build"
_ROOM = "images"
_TAIL, _KEPT = 20, 500
_FULL = ("no space left on device", "errno 28", "disk quota exceeded")
# The packages twice on their way in, then the layer of the build and that of the image.
_DISK_FACTOR = 3


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that an engine has and that is what its record says.

    Attributes:
        name: With its tag, as the engine keeps it.
        id: By which to start it: nobody can give another image this id.
    """

    name: str
    id: str
    layers: tuple[str, ...]
    bytes: int


def image_name(environment: Environment, base: BasePin) -> str:
    """Return the name of an environment's image."""
    return f"modelkiln/{environment.name}:{environment.image_digest(base)[:16]}"


def find_image(
    engine: Engine, environment: Environment, base: BasePin, *, cache: Path
) -> Image | None:
    """Return an environment's image, or None where it is not there, or was never seen being built.

    Raises:
        PinError: An image has its name and other layers than its first build.
        EnvironmentFailure: The engine fails.
    """
    found = _get(engine, name_on(engine.kind, image_name(environment, base)))
    builds = _read_record(_record(environment, base, cache))
    if found is None or not builds:
        return None
    if all(found.layers != tuple(build["layers"]) for build in builds):
        raise PinError(
            f"The image {found.name} is not the one that was built under this name.",
            "Its layers differ from those on record: it was altered, or something else was given "
            "its name.",
            f"invoke image.build {environment.name} --rebuild makes it anew.",
        )
    return found


def find_obstacle(
    engine: Engine, environment: Environment, base: BasePin, *, cache: Path, offline: bool
) -> str:
    """Return why an environment's image is not there and cannot be built; nothing where it is or
    can.

    Raises:
        PinError: An image has its name and is another.
    """
    if find_image(engine, environment, base, cache=cache) is not None:
        return ""
    if offline and not is_whole(environment, cache):
        return f"the packages of the {environment.name} image are not in the cache (--offline)"
    need = _DISK_FACTOR * read_settings(environment.settings).bytes
    if engine.root is not None and disk_free(engine.root) < need:
        return f"{engine.root} has no room for the {environment.name} image ({human_bytes(need)})"
    obstacle = find_base_obstacle(engine, base, offline=offline)
    return f"the {environment.name} image cannot be built: {obstacle}" if obstacle else ""


def ensure_image(
    engine: Engine,
    environment: Environment,
    base: BasePin,
    *,
    cache: Path,
    offline: bool,
    rebuild: bool = False,
    on_progress: OnProgress,
) -> Image:
    """Return the image of an environment, built where it is not there.

    Whoever builds holds a lock; others wait, say for whom, and then use the result.

    Args:
        rebuild: Build it in any case, without what the builder remembers.

    Raises:
        EnvironmentFailure: The base or a package is unavailable, or the build or its trial fails.
        PinError: A package or an image is not the one that its digest names.
        NotReproducible: A rebuild gave other layers than before.
        OutOfSpace: A disk is full.
    """
    found = None if rebuild else find_image(engine, environment, base, cache=cache)
    if found is not None:
        return found

    def tell(holder: object) -> None:
        on_progress(None, f"waiting for {holder}, which builds the same image")

    with hold(lock_of(environment.image_digest(base), cache), on_wait=tell):
        found = None if rebuild else find_image(engine, environment, base, cache=cache)
        if found is not None:
            return found
        work = _Work(engine=engine, environment=environment, base=base, cache=cache)
        return work.build(offline=offline, anew=rebuild, on_progress=on_progress)


def lock_of(digest: str, cache: Path) -> Path:
    """Return the lock that whoever builds the image of this digest holds."""
    return cache / "locks" / f"{_ROOM}-{digest}.lock"


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A build of an image, whose lock is held."""

    engine: Engine
    environment: Environment
    base: BasePin
    cache: Path

    def build(self, *, offline: bool, anew: bool, on_progress: OnProgress) -> Image:
        digest = self.environment.image_digest(self.base)
        require_fresh(self.environment.lock.parent)
        wheels = fetch(self.environment, cache=self.cache, offline=offline, on_progress=on_progress)
        context = make_context(self.environment, wheels)
        if self.engine.root is not None:
            need = _DISK_FACTOR * read_settings(self.environment.settings).bytes
            require_disk(self.engine.root, need, f"the {self.environment.name} image")
        with _engine_errors(f"building the {self.environment.name} image"):
            base_name, base_layers = ensure_base(
                self.engine, self.base, offline=offline, on_progress=on_progress
            )
            builder = find_builder(self.engine)
            console.note(f"image {self.environment.name}: built by {builder.name}, {self.engine}")
            request = Request(
                context=context,
                base=base_name,
                build=digest,
                labels=self._labels(digest),
                anew=anew,
            )
            try:
                identity = self._run(builder, request, on_progress)
                found = _get(self.engine, identity)
                if found is None or found.layers[: len(base_layers)] != base_layers:
                    raise PinError(
                        f"The {self.environment.name} image does not stand on its base.",
                        "Something gave the name of the base to another image meanwhile.",
                        "Run the same command again.",
                    )
                on_progress(None, f"testing the {self.environment.name} image")
                try_image(self.engine, identity, self.environment, self.cache / _ROOM)
                if self.environment.image_digest(self.base) != digest:
                    raise PinError(
                        f"The files of {self.environment.name} changed while its image was built.",
                        f"Somebody edited {self.environment.lock.parent}.",
                        "Run the same command again.",
                    )
                self._keep(builder, found)
                name = name_on(self.engine.kind, image_name(self.environment, self.base))
                self.engine.client.images.get(identity).tag(*name.rsplit(":", 1))
            finally:
                sweep(self.engine, digest)
        found = _get(self.engine, name)
        if found is None:
            raise EnvironmentFailure(
                f"The image {name} vanished after it was built.",
                "Something else removes images from the engine.",
                "Run the same command again.",
            )
        return found

    def _run(self, builder: Builder, request: Request, on_progress: OnProgress) -> str:
        log = _record(self.environment, self.base, self.cache).with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        tail: deque[str] = deque(maxlen=_KEPT)
        progress = BuildProgress(on_progress)
        try:
            with log.open("w", encoding="utf-8") as file:

                def on_line(line: str) -> None:
                    if line:
                        tail.append(line)
                        file.write(f"{line}\n")
                        file.flush()
                    progress.tell(line)

                on_line(f"{builder.name} on {self.engine}, {time.strftime('%Y-%m-%d %H:%M:%S')}")
                return builder.build(request, on_line)
        except BuildFailed:
            raise explain_build("\n".join(tail), log, self.environment) from None

    def _labels(self, digest: str) -> dict[str, str]:
        labels = {
            "org.opencontainers.image.base.name": f"{self.base.image}:{self.base.tag}",
            "org.opencontainers.image.base.digest": self.base.digest,
            ENVIRONMENT_LABEL: self.environment.name,
            "io.modelkiln.lock": sha256_file(self.environment.lock),
            LABEL: digest,
        }
        return labels | _source(self.environment.lock.parent)

    def _keep(self, builder: Builder, image: Image) -> None:
        """Put a build on record; NotReproducible where its builder gave other layers before."""
        path = _record(self.environment, self.base, self.cache)
        builds = _read_record(path)
        build = {"builder": builder.name, "engine": str(self.engine), "layers": [*image.layers]}
        before = [one for one in builds if one["builder"] == builder.name]
        before = [one for one in before if one["engine"] == str(self.engine)]
        if before and before[0]["layers"] != build["layers"]:
            pairs = zip(before[0]["layers"], build["layers"], strict=False)
            first = next((one for one in pairs if one[0] != one[1]), ("fewer", "more"))
            raise NotReproducible(
                f"The {self.environment.name} image came out differently from its first build.",
                f"By the same builder ({builder.name}, {self.engine}): layer {first[0]} then, "
                f"{first[1]} now.",
                f"Something in its Dockerfile depends on more than its inputs; {path} is the "
                "record. invoke image.prune --all forgets it.",
            )
        if before:
            return
        document = {
            "name": image_name(self.environment, self.base),
            "environment": self.environment.name,
            "identity": self.environment.image_identity(self.base),
            "builds": [*builds, build],
        }
        write_file(path, json.dumps(document, indent=2, sort_keys=True).encode())


def explain_build(said: str, log: Path, environment: Environment) -> KilnError:
    """Return the error of a build that failed, by the last words of the builder."""
    kept = f"The whole log is {log}."
    lines = said.splitlines()
    full = [line for line in lines if any(sign in line.lower() for sign in _FULL)]
    if full:
        return OutOfSpace(
            f"The engine's disk is full: the {environment.name} image cannot be built.",
            full[-1].strip(),
            f"Free some: invoke image.prune, docker builder prune, docker system df. {kept}",
        )
    if "do not match the hashes" in said.lower():
        return PinError(
            "A package in the cache is not the one that the lock names.",
            "Its file was altered since it was fetched.",
            f"Remove it with invoke env.prune --all. {kept}",
        )
    return EnvironmentFailure(
        f"The {environment.name} image cannot be built.",
        "\n".join(lines[-_TAIL:]) or "The builder said nothing.",
        f"{kept} --runner local does without images.",
    )


def sweep(engine: Engine, digest: str) -> None:
    """Remove what builds of an image left: unnamed images and containers of its stages."""
    with suppress(docker.errors.DockerException, requests.RequestException):
        stages = f"{BUILD_LABEL}={digest}"
        for one in engine.client.api.containers(all=True, filters={"label": stages}):
            engine.client.api.remove_container(one["Id"], force=True, v=True)
        for label in (stages, f"{LABEL}={digest}"):
            engine.client.images.prune(filters={"dangling": True, "label": label})


def forget(digest: str, cache: Path) -> None:
    """Remove the record of an image and its log."""
    for suffix in (".json", ".log"):
        (cache / _ROOM / f"{digest}{suffix}").unlink(missing_ok=True)


def _record(environment: Environment, base: BasePin, cache: Path) -> Path:
    return cache / _ROOM / f"{environment.image_digest(base)}.json"


def _read_record(path: Path) -> list[dict[str, Any]]:
    """Return the builds on record; none where the record is missing or damaged."""
    try:
        builds = json.loads(path.read_bytes())["builds"]
        return [
            {
                "builder": str(one["builder"]),
                "engine": str(one["engine"]),
                "layers": [str(layer) for layer in one["layers"]],
            }
            for one in builds
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _get(engine: Engine, name: str) -> Image | None:
    with _engine_errors("looking for an image"):
        try:
            found: Mapping[str, Any] = engine.client.api.inspect_image(name)  # type: ignore[no-untyped-call]
        except docker.errors.ImageNotFound:
            return None
    return Image(
        name=name,
        id=str(found["Id"]),
        layers=tuple(map(str, found["RootFS"]["Layers"])),
        bytes=int(found["Size"]),
    )


@contextmanager
def _engine_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise explain(error, doing) from error


def _source(folder: Path) -> dict[str, str]:
    """Return where an environment's files come from, as far as git says; no path of this machine,
    and no revision that is not theirs.
    """
    labels = {}
    address = _ask_git(folder, "config", "--get", "remote.origin.url")
    public = address.startswith(("https://", "ssh://")) and "@" not in address.split("/")[2]
    if public or address.startswith("git@"):
        labels["org.opencontainers.image.source"] = address
    if not _ask_git(folder, "status", "--porcelain", "--", "."):
        labels["org.opencontainers.image.revision"] = _ask_git(folder, "rev-parse", "HEAD")
    return {name: value for name, value in labels.items() if value}


def _ask_git(folder: Path, *command: str) -> str:
    import subprocess

    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["git", *command], cwd=folder, capture_output=True, text=True, timeout=10
        )
        return done.stdout.strip() if done.returncode == 0 else ""
    return ""
