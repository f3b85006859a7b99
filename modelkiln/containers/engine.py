"""The container engine: found, checked before it is trusted, and its errors in our words."""

import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests
from docker.context import ContextAPI

from modelkiln.errors import EnvironmentFailure, KilnError, OutOfSpace

DEFAULT_HOST = "unix:///var/run/docker.sock"
# API 1.41 is Docker 20.10, and what Podman speaks.
OLDEST_API = (1, 41)
_ANSWER_S = 60


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A container engine on this machine.

    Attributes:
        kind: `docker` or `podman`.
        host: Its address, `unix://` and the path of its socket.
        cpus: Processors that it can give.
        root: Its data folder, where this process can see it.
        rootless: Whether it runs as an ordinary user; only Podman may.
        selinux: Whether it labels files.
    """

    client: docker.DockerClient
    kind: str
    version: str
    host: str
    cpus: int
    root: Path | None
    rootless: bool
    selinux: bool

    @property
    def socket(self) -> Path:
        """The path of its socket."""
        return Path(self.host.removeprefix("unix://"))

    def __str__(self) -> str:
        return f"{self.kind.capitalize()} {self.version}"


def find_host(variables: Mapping[str, str] | None = None) -> str:
    """Return the address of the engine: `$DOCKER_HOST`, else Docker's current context, else its
    usual socket.
    """
    given = dict(os.environ if variables is None else variables)
    if named := given.get("DOCKER_HOST", ""):
        return named
    try:
        found = ContextAPI.kwargs_from_context(environment=given).get("base_url")
    except (docker.errors.DockerException, OSError, ValueError):
        # A context that cannot be read counts as none, as it does for Docker's own library.
        found = None
    return str(found or DEFAULT_HOST).replace("http+unix://", "unix://")


def connect(variables: Mapping[str, str] | None = None) -> Engine:
    """Connect to the engine and make sure that it is one that can be used.

    Raises:
        EnvironmentFailure: There is none, it may not be used, it is on another machine, too old, or
            maps users so that files would not be the caller's.
    """
    host = find_host(variables)
    _require_local(host)
    path = Path(host.removeprefix("unix://"))
    if not os.path.lexists(path):
        _require_open(path)
        raise EnvironmentFailure(
            f"No container engine listens on {path}.",
            "Docker is not installed, or its service does not run.",
            "Start it (systemctl start docker), set DOCKER_HOST to its socket, or build with "
            "--runner local.",
        )
    try:
        version, info, client = _ask(host)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise explain(error, f"asking the engine on {path}") from error
    try:
        return _check(host, version, info, client)
    except EnvironmentFailure:
        client.close()
        raise


def _ask(host: str) -> tuple[dict[str, Any], dict[str, Any], docker.DockerClient]:
    """Return what an engine is, what it has, and a client that speaks its version of the API."""
    oldest = ".".join(map(str, OLDEST_API))
    with contextlib.closing(docker.DockerClient(base_url=host, version=oldest)) as first:
        version: dict[str, Any] = first.api.version(api_version=False)
    _require_version(version)
    client = docker.DockerClient(
        base_url=host, version=str(version["ApiVersion"]), timeout=_ANSWER_S
    )
    try:
        return version, client.info(), client
    except BaseException:
        client.close()
        raise


def _check(
    host: str, version: Mapping[str, Any], info: Mapping[str, Any], client: docker.DockerClient
) -> Engine:
    path = Path(host.removeprefix("unix://"))
    kind = _kind(version)
    security = [str(one) for one in info.get("SecurityOptions") or ()]
    # Docker says it in one way, Podman in the other.
    rootless = any(one.startswith("name=rootless") for one in security) or bool(
        info.get("Rootless")
    )
    if kind == "docker" and (rootless or any(one.startswith("name=userns") for one in security)):
        raise EnvironmentFailure(
            f"The Docker engine on {path} cannot be used.",
            "It maps users (rootless mode or userns-remap), so what a container writes with your "
            "user id would belong to another one.",
            "Use Podman, which can keep your user id, an engine without user mapping, or --runner "
            "local.",
        )
    root = Path(str(info.get("DockerRootDir") or "/nonexistent"))
    return Engine(
        client=client,
        kind=kind,
        version=str(version["Version"]),
        host=host,
        cpus=int(info.get("NCPU") or 1),
        root=root if os.path.isdir(root) else None,  # noqa: PTH112 (it may not be looked at)
        rootless=rootless,
        selinux=any(one.startswith("name=selinux") for one in security),
    )


def _require_local(host: str) -> None:
    if not host.startswith("unix://"):
        raise EnvironmentFailure(
            f"The container engine at {host} is refused.",
            "It is not on this machine: stages read and write folders of this machine, which a "
            "remote engine does not see.",
            "Unset DOCKER_HOST or name a Unix socket; or run modelkiln on that machine.",
        )


def _require_open(path: Path) -> None:
    """Tell a socket that is hidden in a closed folder from one that is not there."""
    try:
        path.stat()
    except PermissionError as error:
        raise explain(error, f"looking for {path}") from error
    except OSError:
        return


def _require_version(version: Mapping[str, Any]) -> None:
    found = str(version.get("ApiVersion", "0.0"))
    if tuple(int(part) for part in found.split(".")) < OLDEST_API:
        raise _too_old(f"version {version.get('Version')}, API {found}")


def _too_old(found: str) -> EnvironmentFailure:
    wanted = ".".join(map(str, OLDEST_API))
    return EnvironmentFailure(
        f"The container engine is too old: {found}.",
        f"modelkiln needs API {wanted}: Docker 20.10, Podman 4, or later.",
        "Update the engine, or build with --runner local.",
    )


def _kind(version: Mapping[str, Any]) -> str:
    names = " ".join(str(one.get("Name", "")) for one in version.get("Components") or ())
    return "podman" if "podman" in names.lower() else "docker"


def explain(error: Exception, doing: str) -> KilnError:
    """Return an error of the engine or of the way to it, with what happened, why and what to run
    next.
    """
    said = str(getattr(error, "explanation", "") or error).strip()
    lower = said.lower()
    if _has_cause(error, PermissionError):
        return EnvironmentFailure(
            "The container engine may not be used.",
            f"Permission was denied while {doing}.",
            "Join the engine's group (Docker: usermod -aG docker $USER, then log in anew), use "
            "rootless Podman, or build with --runner local.",
        )
    if "too old" in lower and "minimum supported" in lower:
        return EnvironmentFailure(
            "The engine is newer than the library that speaks to it.",
            said,
            "Update modelkiln, or build with --runner local.",
        )
    if "no space left on device" in lower or "disk quota" in lower:
        return OutOfSpace(
            "The engine's disk is full.",
            said[-500:],
            "Free some: invoke image.prune, docker builder prune, docker system df.",
        )
    if "could not select device driver" in lower or "unknown runtime" in lower:
        return no_gpu(said)
    if "bind source path does not exist" in lower or "statfs" in lower:
        return EnvironmentFailure(
            "The engine does not see this machine's files.",
            f"It runs elsewhere: in a virtual machine, in a container, or remotely. {said}",
            "Run modelkiln where the engine runs, or build with --runner local.",
        )
    if isinstance(error, docker.errors.ImageNotFound) or "no such image" in lower:
        return EnvironmentFailure(
            "An image is gone that was there a moment ago.",
            f"Something else removed it while {doing}: {said}",
            "Run the same command again; it builds the image anew.",
        )
    spoke = isinstance(error, docker.errors.APIError)
    if not spoke and (isinstance(error, requests.RequestException) or _has_cause(error, OSError)):
        return EnvironmentFailure(
            "The container engine does not answer.",
            f"It stopped, or was restarted, while {doing}.",
            "Look at its service (systemctl status docker), then run the same command again.",
        )
    return EnvironmentFailure(
        f"The container engine failed while {doing}.",
        said[-800:] or type(error).__name__,
        "invoke doctor looks for the cause; --runner local does without an engine.",
    )


def no_gpu(why: str) -> EnvironmentFailure:
    """Return the error of a stage that needs a GPU where its container got none."""
    return EnvironmentFailure(
        "The engine gives its containers no GPU.",
        why,
        "Install the NVIDIA container toolkit and its runtime (nvidia-ctk runtime configure), or "
        "build what needs a GPU on another machine.",
    )


def _has_cause(error: BaseException | None, kind: type[OSError]) -> bool:
    """Return whether an error of this kind is behind another; urllib3 hides it in arguments."""
    seen: set[int] = set()
    queue: list[object] = [error]
    while queue:
        one = queue.pop()
        if one is None or id(one) in seen or not isinstance(one, BaseException):
            continue
        seen.add(id(one))
        if isinstance(one, kind) and not isinstance(one, requests.RequestException):
            return True
        if isinstance(one, OSError) and kind is PermissionError and one.errno == errno.EACCES:
            return True
        queue += [one.__cause__, one.__context__, *one.args, getattr(one, "reason", None)]
    # The library turns some causes into text.
    return kind is PermissionError and "PermissionError" in str(error)
