"""What builds images, behind one port: BuildKit through Docker's command, or the engine's own API.

Both get the same Dockerfile, the same context and no network.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

from modelkiln.containers.build_cache import forgotten
from modelkiln.containers.context import EPOCH, Context
from modelkiln.containers.engine import Engine
from modelkiln.util.process import CommandFailed, follow

OnLine = Callable[[str], None]

# What Docker's command and library would hand on from the user's settings; no build needs it, and
# a proxy's address may hold a password.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
_KEPT = ("PATH", "HOME", "TMPDIR", "DOCKER_CONFIG", "XDG_RUNTIME_DIR")
_BUILDX = re.compile(r"github\.com/docker/buildx v?(\d+)\.(\d+)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_DOCKER = re.compile(r"Docker version (\d+)\.")
# From this version on a docker without buildx has no BuildKit, and from the other on buildx adds
# a provenance with times to an image unless told not to.
_NO_BUILTIN = 23
_PROVENANCE = (0, 10)
_ASK_S = 20


class BuildFailed(Exception):
    """A build did not come to its end; the log has its words."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be built.

    Attributes:
        base: Name of the base image, which the engine has.
        build: Label of what the build leaves behind.
        labels: Labels of the image.
        anew: Build every layer, whatever the builder remembers.
    """

    context: Context
    base: str
    build: str
    labels: Mapping[str, str]
    anew: bool = False

    @property
    def arguments(self) -> dict[str, str]:
        """Build arguments."""
        return {"BASE_IMAGE": self.base, "IMAGE": self.build}


class Builder(Protocol):
    """Builds an image, which has no name yet, and returns its id."""

    @property
    def name(self) -> str:
        """For people, and for the record of a build."""

    def build(self, request: Request, on_line: OnLine) -> str:
        """Build.

        Args:
            on_line: Gets every line that the builder says, and an empty one now and then.

        Raises:
            BuildFailed: The build failed.
            OSError: A file of the context cannot be read.
        """


@dataclass(frozen=True, kw_only=True)
class CommandBuilder:
    """BuildKit, through a docker command that has it.

    Attributes:
        command: What begins a build.
    """

    name: str
    command: tuple[str, ...]
    engine: Engine

    def build(self, request: Request, on_line: OnLine) -> str:
        with tempfile.TemporaryDirectory(prefix="modelkiln-") as folder, forgotten(self.engine):
            identity = Path(folder) / "id"
            options = ["--progress=plain", "--network=none", f"--iidfile={identity}"]
            arguments = dict.fromkeys(_both_cases(_PROXIES), "") | request.arguments
            options += [f"--build-arg={name}={value}" for name, value in arguments.items()]
            options += [f"--label={name}={value}" for name, value in request.labels.items()]
            if request.anew:
                options.append("--no-cache")
            command = [*self.command, *options, "-"]
            try:
                for line in follow(
                    command, self._variables(), Path(folder), request.context.blocks()
                ):
                    on_line(line)
            except CommandFailed:
                raise BuildFailed from None
            return identity.read_text(encoding="ascii").strip()

    def _variables(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return kept | {
            "DOCKER_HOST": self.engine.host,
            "DOCKER_BUILDKIT": "1",
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
            "SOURCE_DATE_EPOCH": str(EPOCH),
        }


@dataclass(frozen=True, kw_only=True)
class ApiBuilder:
    """The engine's own builder, through its API."""

    engine: Engine

    @property
    def name(self) -> str:
        return "Docker's API" if self.engine.kind == "docker" else "Podman's API"

    def build(self, request: Request, on_line: OnLine) -> str:
        identity = ""
        news = self.engine.client.api.build(
            # The library wants a file, and sends what can be gone through piece by piece.
            fileobj=cast(IO[bytes], request.context.blocks()),
            custom_context=True,
            decode=True,
            rm=True,
            forcerm=True,
            nocache=request.anew,
            # Podman's builder takes another word, and would give "none" the host's network.
            network_mode="none" if self.engine.kind == "docker" else "NetworkDisabled",
            buildargs=request.arguments,
            labels=dict(request.labels),
            use_config_proxy=False,
            timeout=None,
        )
        try:
            for one in news:
                for line in _lines(one):
                    on_line(line)
                identity = _identity(one) or identity
                if "error" in one:
                    raise BuildFailed
        finally:
            with suppress(AttributeError):
                news.close()
        if not identity:
            raise BuildFailed
        return identity


def find_builder(engine: Engine, variables: Mapping[str, str] | None = None) -> Builder:
    """Return the builder to use: BuildKit where a docker command on the PATH has it, else the
    engine's.
    """
    if engine.kind == "docker":
        path = (os.environ if variables is None else variables).get("PATH", os.defpath)
        found = [_look_at(one, engine) for one in _commands(path)]
        for kind in ("buildx", "built-in"):
            for builder in found:
                if builder is not None and kind in builder.name:
                    return builder
    return ApiBuilder(engine=engine)


def _commands(path: str) -> Iterator[str]:
    seen: set[Path] = set()
    for folder in path.split(os.pathsep):
        command = Path(folder or ".") / "docker"
        if os.access(command, os.X_OK) and command.is_file() and command.resolve() not in seen:
            seen.add(command.resolve())
            yield str(command.absolute())


def _look_at(command: str, engine: Engine) -> CommandBuilder | None:
    buildx = _BUILDX.search(_ask(command, "buildx", "version"))
    if buildx:
        begin = [command, "buildx", "build", "--builder=default", "--load"]
        version = int(buildx[1]), int(buildx[2])
        if version >= _PROVENANCE:
            begin.append("--provenance=false")
        name = f"BuildKit (buildx {version[0]}.{version[1]})"
        return CommandBuilder(name=name, command=tuple(begin), engine=engine)
    version_line = _DOCKER.match(_ask(command, "--version"))
    if version_line and int(version_line[1]) < _NO_BUILTIN:
        name = f"BuildKit (built-in client of docker {version_line[1]})"
        return CommandBuilder(name=name, command=(command, "build"), engine=engine)
    return None


def _ask(*command: str) -> str:
    import subprocess

    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ASK_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _both_cases(names: tuple[str, ...]) -> tuple[str, ...]:
    return (*names, *map(str.lower, names))


def _lines(news: Mapping[str, Any]) -> Iterator[str]:
    said = news.get("stream") or news.get("error") or news.get("status") or ""
    plain = _COLOUR.sub("", str(said))
    yield from filter(None, map(str.rstrip, plain.splitlines())) if said else ("",)


def _identity(news: Mapping[str, Any]) -> str:
    given = news.get("aux")
    if isinstance(given, dict) and "ID" in given:
        return str(given["ID"])
    # Podman says it in words alone.
    found = re.match(r"Successfully built ([0-9a-f]{12,64})", str(news.get("stream", "")))
    return found[1] if found else ""
