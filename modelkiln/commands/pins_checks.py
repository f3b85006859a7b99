"""Whether everything that a build takes from elsewhere is pinned, and the pins agree.

A check reads files and yields faults; only `ask_registries` asks anybody. A new check is a
function and a line in CHECKS.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelkiln.catalog.catalog import Catalog
from modelkiln.environments.base_images import BasePin, load_base, load_bases
from modelkiln.environments.lockfile import normalize, read_lock
from modelkiln.environments.requirements import (
    exact_requirements,
    known_locks,
    recorded_digest,
    source_digest,
    versions,
)
from modelkiln.errors import KilnError
from modelkiln.fetch.registry import NotAsked, find_digest, find_repository
from modelkiln.paths import REPOSITORY

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DEFAULT_BASE = re.compile(r"^ARG BASE_IMAGE=(\S+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A pin that is missing, malformed, or differs from what it should agree with.

    Attributes:
        about: The file or the thing at fault.
        remedy: What fixes it.
    """

    about: str
    message: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What is checked.

    Attributes:
        root: The repository.
        environment: The folder of an environment, by name.
        variables: Environment variables, for the user's own pins.
    """

    root: Path
    catalog: Catalog
    environment: Callable[[str], Path]
    variables: Mapping[str, str] | None = None


Check = Callable[[Scope], Iterator[Fault]]


def find_faults(scope: Scope) -> list[Fault]:
    """Return the faults that files alone show; a check that cannot read its files is a fault
    too.
    """
    found: list[Fault] = []
    for check in CHECKS:
        try:
            found.extend(check(scope))
        except KilnError as error:
            found.append(
                Fault(about="pins", message=f"{error.what} {error.why}", remedy=error.next)
            )
    return found


def check_hashes(scope: Scope) -> Iterator[Fault]:
    """Check that every lock names each package by version and hash."""
    for path in lock_files(scope.root):
        try:
            empty = not read_lock(path)
        except KilnError as error:
            yield Fault(about=_name(path, scope), message=error.what, remedy=_mend(path, scope))
        else:
            if empty:
                yield Fault(
                    about=_name(path, scope), message="It is empty.", remedy=_mend(path, scope)
                )


def check_freshness(scope: Scope) -> Iterator[Fault]:
    """Check that every lock is what its requirements ask for."""
    for lock in known_locks(scope.root).values():
        about = _name(lock.path, scope)
        if not lock.path.is_file():
            yield Fault(about=about, message="It is missing.", remedy=lock.command)
            continue
        source = _name(lock.source, scope)
        if recorded_digest(lock) != source_digest(lock):
            yield Fault(
                about=about,
                message=f"It is out of date: {source} asks for something else.",
                remedy=lock.command,
            )
            continue
        try:
            locked = versions(lock.path)
        except KilnError:
            continue
        for name, wanted in exact_requirements(lock).items():
            if locked.get(name, "none").partition("+")[0] != wanted.partition("+")[0]:
                yield Fault(
                    about=about,
                    message=f"It has {name} {locked.get(name, 'not')}; {source} asks for {wanted}.",
                    remedy=lock.command,
                )
        for name in sorted({normalize(one) for one in lock.left_out} & locked.keys()):
            yield Fault(
                about=about,
                message=f"It has {name}, which environment.toml leaves out.",
                remedy=lock.command,
            )


def check_seeds(scope: Scope) -> Iterator[Fault]:
    """Yield what an environment installs first and its lock does not have."""
    for path in sorted(scope.root.glob("docker/*/environment.toml")):
        locked = _versions(path.with_name("requirements.txt"))
        for name in _settings(path).get("seed", []):
            if normalize(str(name)) not in locked:
                yield Fault(
                    about=_name(path, scope),
                    message=f"Its seed {name} is not in the lock.",
                    remedy=f"Add it to requirements.in, then invoke pins.lock {path.parent.name}.",
                )


def check_bases(scope: Scope) -> Iterator[Fault]:
    """Check that every base is pinned by digest, the user's own ones too."""
    for variables in ({}, scope.variables):
        try:
            load_bases(variables)
        except KilnError as error:
            yield Fault(about="bases", message=f"{error.what} {error.why}", remedy=error.next)
            return


def check_dockerfiles(scope: Scope) -> Iterator[Fault]:
    """Yield Dockerfiles that do not stand by default on the base that the pins name."""
    for path in sorted(scope.root.glob("docker/*/Dockerfile")):
        wanted = load_base(_base_name(path.with_name("environment.toml")), {}).reference
        found = _DEFAULT_BASE.findall(path.read_text(encoding="utf-8"))
        if found != [wanted]:
            yield Fault(
                about=_name(path, scope),
                message=f"Its base is {', '.join(found) or 'not named'}; the pin is {wanted}.",
                remedy=f"Write ARG BASE_IMAGE={wanted} before its first FROM.",
            )


def check_checkpoints(scope: Scope) -> Iterator[Fault]:
    """Check that every checkpoint is named by size and SHA-256, and fetched over an encrypted
    connection.
    """
    for model in scope.catalog.models.values():
        one = model.checkpoint
        wrong = [
            f"{what} is {value!r}"
            for what, value, good in (
                ("sha256", one.sha256, _SHA256.fullmatch(one.sha256)),
                ("bytes", one.bytes, one.bytes > 0),
                ("url", one.url, one.url.startswith("https://")),
            )
            if not good
        ]
        if wrong:
            yield Fault(
                about=f"checkpoint of {model.name}",
                message=f"It is not pinned: {', '.join(wrong)}.",
                remedy="Enter what `sha256sum` and `stat` say of the file in the catalog.",
            )


def check_upstreams(scope: Scope) -> Iterator[Fault]:
    """Yield families whose package has another version in the lock than their patches are for."""
    seen = {(one.environment, one.upstream): one.family for one in scope.catalog.models.values()}
    for (name, upstream), family in seen.items():
        if not upstream.package:
            continue
        about = f"upstream of {family}"
        if not _SHA256.fullmatch(upstream.digest):
            yield Fault(
                about=about,
                message=f"{upstream.package} is not pinned: its digest is {upstream.digest!r}.",
                remedy="Enter the digest that the stages print, after a look at the package.",
            )
        lock = scope.environment(name) / "requirements.txt"
        locked = _versions(lock).get(normalize(upstream.package), "not there")
        if locked != upstream.version:
            yield Fault(
                about=about,
                message=f"The catalog says {upstream.package} {upstream.version}; "
                f"in the lock of {name} it is {locked}.",
                remedy="Name one version in the catalog, its patches and requirements.in.",
            )


CHECKS: tuple[Check, ...] = (
    check_hashes,
    check_freshness,
    check_seeds,
    check_bases,
    check_dockerfiles,
    check_checkpoints,
    check_upstreams,
)


def ask_registries(bases: Mapping[str, BasePin]) -> tuple[list[Fault], dict[str, str]]:
    """Ask for each base whether its digest is there and what its tag names now.

    Returns:
        The faults, and for each base that could not be asked for, why.
    """
    faults: list[Fault] = []
    unasked: dict[str, str] = {}
    for name, base in bases.items():
        repository = find_repository(base.image)
        try:
            there = find_digest(repository, base.digest)
            now = find_digest(repository, base.tag)
        except NotAsked as error:
            unasked[name] = str(error)
            continue
        message = ""
        if there != base.digest:
            message = f"{repository.host} knows no {base.image}@{base.digest}."
        elif now is None:
            message = f"{repository.host} has no tag {base.tag} of {base.image} any more."
        elif now != base.digest:
            message = f"{base.image}:{base.tag} is {now} now; the pin is {base.digest}."
        if message:
            faults.append(
                Fault(
                    about=f"base {name}",
                    message=message,
                    remedy="Look at what changed, then enter the digest in docker/pins.toml "
                    "and in the Dockerfiles.",
                )
            )
    return faults, unasked


def lock_files(root: Path = REPOSITORY) -> list[Path]:
    """Return every lock: those made from a requirements.in, and those that benches bring."""
    made = [lock.path for lock in known_locks(root).values() if lock.path.is_file()]
    return [*made, *sorted(root.glob("bench/*.txt")), *sorted(root.glob("docker/*/*-cpu.txt"))]


def _versions(path: Path) -> Mapping[str, str]:
    try:
        return versions(path)
    except KilnError:
        # `check_hashes` says it.
        return {}


def _settings(path: Path) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _base_name(path: Path) -> str:
    return str(_settings(path).get("base", "python"))


def _mend(path: Path, scope: Scope) -> str:
    commands = [lock.command for lock in known_locks(scope.root).values() if lock.path == path]
    return commands[0] if commands else "Restore it with git."


def _name(path: Path, scope: Scope) -> str:
    return path.relative_to(scope.root).as_posix()
