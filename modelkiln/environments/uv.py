"""Installs hash-locked packages with uv, and is the only place that starts it.

uv is given the user's network variables (proxies, certificates, indexes); stages never see them.
What is installed depends on the lock alone: every package is checked against its SHA-256.
"""

import os
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelkiln.environments.blocked import find_blocked
from modelkiln.environments.lockfile import Locked
from modelkiln.environments.wheels import split
from modelkiln.errors import EnvironmentFailure, KilnError, OutOfSpace, PinError
from modelkiln.util.console import OnProgress
from modelkiln.util.process import CommandFailed, follow

_NETWORK_NAMES = frozenset(
    {
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "NETRC",
    }
)
_NETWORK_PREFIXES = ("UV_", "PIP_")
_KEPT_NAMES = frozenset({"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "USER", "LOGNAME"})
_TAIL = 12


def installer_variables(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what the installer sees: a few of the system's variables, and the user's network
    ones.
    """
    given = os.environ if given is None else given
    return {
        name: value
        for name, value in given.items()
        if name in _KEPT_NAMES
        or name.upper() in _NETWORK_NAMES
        or name.startswith(_NETWORK_PREFIXES)
    }


@dataclass(frozen=True, kw_only=True)
class Installer:
    """uv, with what all of its runs share.

    Attributes:
        log: File to which everything that uv says is added.
        cache: uv's cache. It lies beside the environments, so that files are linked, not copied.
        offline: Whether only packages already in the cache may be used.
        variables: More variables for packages that are built from source.
        bytes: What a whole installation writes, for the share done; 0 when not known.
    """

    log: Path
    cache: Path
    offline: bool
    on_progress: OnProgress
    variables: Mapping[str, str]
    bytes: int = 0

    def make_environment(self, folder: Path, python: Path) -> None:
        """Make an empty virtual environment."""
        self._start(["venv", "--no-project", "--relocatable", "--python", str(python), str(folder)])

    def install(self, packages: Sequence[Locked], python: Path, target: Path | None = None) -> None:
        """Install packages, and nothing that they ask for, each checked against its hash.

        Args:
            packages: Entries of a lock.
            python: Interpreter of the environment, or the one that the target folder is for.
            target: Folder to install into instead of the environment.

        Raises:
            EnvironmentFailure: A package cannot be fetched or built.
            PinError: A package is not the one that the lock names.
            OutOfSpace: The disk is full.
        """
        for part, where in split(packages):
            self._install(part, python, target, where)

    def _install(
        self, packages: Sequence[Locked], python: Path, target: Path | None, where: Sequence[str]
    ) -> None:
        lock = self.log.with_suffix(".lock.txt")
        lock.write_text("".join(f"{one.text}\n" for one in packages), encoding="utf-8")
        options = ["--python", str(python), "--no-deps", "--require-hashes", "--no-build-isolation"]
        if target is not None:
            # Tools start often, and not everybody lets Python keep what it compiles.
            options += ["--target", str(target), "--compile-bytecode"]
        try:
            self._start(["pip", "install", *options, *where, "-r", str(lock)], packages)
        finally:
            lock.unlink()

    def _start(self, command: Sequence[str], packages: Sequence[Locked] = ()) -> None:
        from modelkiln.util.machine import disk_free

        options = ["--no-python-downloads", "--color", "never"]
        if "UV_CACHE_DIR" not in os.environ:
            options += ["--cache-dir", str(self.cache)]
        if self.offline:
            options.append("--offline")
        variables = installer_variables() | dict(self.variables)
        tail: deque[str] = deque(maxlen=_TAIL)
        free = disk_free(self.log)
        message = "asking for packages"
        try:
            with self.log.open("a", encoding="utf-8") as log:
                for line in follow([find_uv(), *command, *options], variables, self.log.parent):
                    if line:
                        tail.append(line)
                        log.write(f"{line}\n")
                        log.flush()
                        message = _told(line) or message
                    written = max(0, free - disk_free(self.log))
                    share = min(0.99, written / self.bytes) if self.bytes else None
                    self.on_progress(share, message)
        except CommandFailed:
            raise _failure("\n".join(tail), self.log, self.offline, packages) from None


def find_uv() -> str:
    """Return the uv program of the host environment.

    Raises:
        EnvironmentFailure: It is not installed.
    """
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError):
        raise EnvironmentFailure(
            "The installer uv is missing.",
            "The host environment .venv is incomplete, or another Python is running.",
            "Remove .venv, then make quickstart.",
        ) from None


def _told(line: str) -> str:
    words = line.split()
    if len(words) >= 2 and words[0] in ("Downloading", "Building", "Built", "Prepared"):
        return " ".join([words[0].lower(), *words[1:]])
    return ""


def _failure(said: str, log: Path, offline: bool, packages: Sequence[Locked]) -> KilnError:
    lower = said.lower()
    kept = f"The whole log is {log}."
    if "hash mismatch" in lower:
        return PinError(
            "A package is not the one that the lock names.",
            said,
            f"An index or a mirror serves another file; check UV_* variables. {kept}",
        )
    if "no space left" in lower or "os error 28" in lower:
        return OutOfSpace(
            "The disk is full.",
            said,
            "Free some with invoke env.prune, or set MODELKILN_CACHE to a folder on another disk.",
        )
    if offline:
        return EnvironmentFailure(
            "The environment is not installed, and its packages are not all in the cache.",
            "--offline was given, so nothing was downloaded.",
            f"Run the same command once without --offline. {kept}",
        )
    if blocked := find_blocked(said, packages, index="UV_INDEX", log=kept):
        return blocked
    if is_network(lower):
        return EnvironmentFailure(
            "The packages cannot be downloaded.",
            said,
            "Check the network; behind a proxy or an own certificate authority, set HTTPS_PROXY or "
            f"SSL_CERT_FILE. {kept}",
        )
    return EnvironmentFailure("A package cannot be installed.", said, kept)


def is_network(said: str) -> bool:
    """Return whether an installer's words, in lower case, are of a network that fails."""
    signs: Collection[str] = (
        "dns error",
        "error sending request",
        "failed to fetch",
        "client error (connect)",
        "connection refused",
        "certificate",
        "timed out",
        "network",
    )
    return any(sign in said for sign in signs)
