"""Locks: which there are, what each is made from, and how one is made anew.

A lock begins with the command that makes it and a digest of what it was made from, so that one
which is out of date is told without a network.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelkiln.environments.lockfile import normalize, read_lock
from modelkiln.environments.uv import find_uv, installer_variables
from modelkiln.errors import EnvironmentFailure, PinError, UsageError
from modelkiln.paths import REPOSITORY
from modelkiln.util.hashing import sha256_json

PYTHON = "3.11"
PLATFORM = "x86_64-manylinux_2_28"
_FROM = re.compile(r"^# From: \S+, ([0-9a-f]{64})$", re.MULTILINE)
_EXACT = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?\s*==\s*([^\s;,]+)\s*(?:;.*)?", re.ASCII)
_PLAIN = ("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url")
_NO_SOLUTION = "No solution found"
_TAIL = 12


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A file of exact versions with hashes, and the requirements that it is made from.

    Attributes:
        name: What `invoke pins.lock` calls it.
        left_out: Packages that are asked for and never loaded; the lock goes without them.
    """

    name: str
    source: Path
    path: Path
    left_out: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What makes it anew."""
        return f"invoke pins.lock {self.name}"


def known_locks(root: Path = REPOSITORY) -> dict[str, Lock]:
    """Return every lock that is made from a requirements.in, by name."""
    found = [
        Lock(name=source.stem, source=source, path=source.with_suffix(".txt"))
        for source in sorted(root.glob("requirements/*.in"))
    ]
    found += [_lock_in(source.parent) for source in sorted(root.glob("docker/*/requirements.in"))]
    found += [
        Lock(name=f"tests-{source.parent.name}", source=source, path=source.with_suffix(".txt"))
        for source in sorted(root.glob("tests/*/requirements.in"))
    ]
    return {one.name: one for one in found}


def require_fresh(room: Path) -> None:
    """Raise PinError where an environment's lock was made from other requirements than those beside
    it.

    Args:
        room: The environment's folder. One without a requirements.in has a lock made elsewhere.
    """
    lock = _lock_in(room)
    if lock.source.is_file() and recorded_digest(lock) != source_digest(lock):
        raise PinError(
            f"The lock {lock.path} is out of date.",
            f"{lock.source.name} beside it asks for something else than what it was made from.",
            f"{lock.command} makes it anew; or restore both with git.",
        )


def _lock_in(room: Path) -> Lock:
    source = room / "requirements.in"
    return Lock(
        name=room.name,
        source=source,
        path=source.with_suffix(".txt"),
        left_out=_left_out(room / "environment.toml"),
    )


def source_digest(lock: Lock) -> str:
    """Return the SHA-256 of what decides a lock: its requirements without comments, and how it is
    made.

    Raises:
        EnvironmentFailure: A file of requirements cannot be read.
    """
    return sha256_json(
        {
            "requirements": sorted(set(_requirements(lock.source))),
            "left_out": sorted(map(normalize, lock.left_out)),
            "python": PYTHON,
            "platform": PLATFORM,
        }
    )


def recorded_digest(lock: Lock) -> str:
    """Return the digest of its requirements that a lock was made from, or nothing where it says
    none.
    """
    found = _FROM.search(_read(lock.path))
    return found[1] if found else ""


def exact_requirements(lock: Lock) -> dict[str, str]:
    """Return the packages that the requirements ask for in one exact version, by normalized
    name.
    """
    exact = map(_EXACT.fullmatch, _requirements(lock.source))
    return {normalize(one[1]): one[2] for one in exact if one}


def make_lock(
    lock: Lock,
    *,
    root: Path = REPOSITORY,
    cache: Path,
    cpu: bool = False,
    upgrade: bool = False,
    offline: bool = False,
) -> Path:
    """Resolve a lock's requirements and write the lock; versions stay where they may.

    Args:
        cpu: Take PyTorch's packages for processors alone, from PyTorch's own index; the lock is
            written beside the other one.
        upgrade: Take the newest versions that the requirements allow.

    Returns:
        The lock that was written.

    Raises:
        UsageError: The requirements contradict each other.
        EnvironmentFailure: uv is missing, or an index cannot be reached.
        PinError: What was resolved is not wholly named by version and hash.
    """
    import tempfile

    from modelkiln.util.atomic import write_file

    final = lock.path.with_name(f"{lock.path.stem}-cpu.txt") if cpu else lock.path
    options = [*_PLAIN, "--python-version", PYTHON, "--python-platform", PLATFORM]
    options += ["--python", sys.executable]
    if cpu:
        options += ["--torch-backend", "cpu"]
    else:
        options += [word for name in lock.left_out for word in ("--no-emit-package", name)]
    options += ["--upgrade"] * upgrade + ["--offline"] * offline
    if "UV_CACHE_DIR" not in os.environ:
        options += ["--cache-dir", str(cache / "uv")]
    with tempfile.TemporaryDirectory(prefix="modelkiln-") as folder:
        made = Path(folder) / final.name
        # uv keeps the versions that it finds in the file it writes to.
        if final.is_file() and not upgrade:
            made.write_bytes(final.read_bytes())
        source = lock.source.relative_to(root).as_posix()
        _compile([source, *options, "--output-file", str(made)], lock, root)
        _check(made, lock)
        head = f"# Made by: {lock.command}{' --cpu' if cpu else ''}\n"
        head += f"# From: {source}, {source_digest(lock)}\n"
        body = [line for line in _read(made).splitlines() if not line.startswith("#")]
        write_file(final, (head + "".join(f"{line}\n" for line in body)).encode())
    return final


def versions(path: Path) -> Mapping[str, str]:
    """Return the versions of a lock's packages; none where there is no such file.

    Raises:
        PinError: A line is no pinned package with a hash.
    """
    return {one.name: one.version for one in read_lock(path)} if path.is_file() else {}


def _compile(arguments: Sequence[str], lock: Lock, root: Path) -> None:
    import subprocess

    done = subprocess.run(
        [find_uv(), "pip", "compile", "--quiet", "--color", "never", *arguments],
        cwd=root,
        env=installer_variables(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return
    said = "\n".join(done.stderr.strip().splitlines()[-_TAIL:])
    if _NO_SOLUTION in said:
        raise UsageError(
            f"The requirements of {lock.name} contradict each other.",
            said,
            f"Change {lock.source}, then {lock.command}.",
        )
    raise EnvironmentFailure(
        f"The lock of {lock.name} could not be made.",
        said or f"uv ended with {done.returncode}.",
        "Check the network (HTTPS_PROXY, SSL_CERT_FILE), then run the same command again.",
    )


def _check(made: Path, lock: Lock) -> None:
    # An address or an option in a lock would name a machine or an index.
    for one in read_lock(made):
        words = one.text.partition("--hash=")[0].partition(";")[0].split()
        if words != [f"{one.text.split('==')[0].strip()}=={one.version}"]:
            raise PinError(
                f"The lock of {lock.name} would hold more than versions and hashes.",
                f"It says {' '.join(words)!r}.",
                f"Change {lock.source}, then {lock.command}.",
            )


def _requirements(source: Path) -> Iterator[str]:
    """Yield the requirements of a file and of those that it includes, without comments."""
    for line in _read(source).replace("\\\n", " ").splitlines():
        text = " ".join(re.sub(r"(?:^|\s)#.*", "", line).split())
        included = re.fullmatch(r"(?:-r|--requirement)[ =](\S+)", text)
        if included:
            yield from _requirements(source.parent / included[1])
        elif text:
            yield text


def _left_out(settings: Path) -> tuple[str, ...]:
    import tomllib

    if not settings.is_file():
        return ()
    try:
        named = tomllib.loads(_read(settings)).get("left_out", [])
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{settings} cannot be read as TOML.", str(error), "Correct it."
        ) from error
    if not isinstance(named, list):
        raise UsageError(
            f"{settings}: left_out is not an array.", f"It is {named!r}.", "Correct it."
        )
    return tuple(map(str, named))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise EnvironmentFailure(
            f"{path} cannot be read.", str(error.strerror), "Restore it with git."
        ) from error
