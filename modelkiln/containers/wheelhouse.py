"""Wheelhouses: the packages of a lock as files, fetched on the host for the build of an image.

The build itself then needs no network, no index, no proxy and no certificate. pip fetches with the
user's own settings (pip.conf, PIP_*, proxies); only the lock decides what. A wheelhouse lies in the
cache as wheels/NAME/, by the lock's digest, and is always whole.
"""

import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelkiln.environments.blocked import find_blocked
from modelkiln.environments.cache import Installed
from modelkiln.environments.environment import DESCRIPTION, Environment
from modelkiln.environments.install import making, read_settings, remove
from modelkiln.environments.lockfile import Locked, normalize, read_lock
from modelkiln.environments.uv import installer_variables, is_network
from modelkiln.environments.wheels import split
from modelkiln.errors import EnvironmentFailure, KilnError, OutOfSpace, PinError
from modelkiln.util.console import OnProgress
from modelkiln.util.flock import Held, exclude, hold
from modelkiln.util.hashing import sha256_file, sha256_json
from modelkiln.util.machine import check_platform, require_disk
from modelkiln.util.process import CommandFailed, follow
from modelkiln.util.units import human_bytes

_ROOM = "wheels"
# Named one by one, newest first, so that every host fetches the same files whatever its own are.
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)),
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
    "linux_x86_64",
)
_PYTHON = ("--implementation", "cp", "--python-version", "3.11")
# Whatever pip.conf prefers, all files of the lock are candidates.
_ANY_KIND = ("--no-binary=:none:", "--only-binary=:none:")
_ABIS = ("cp311", "abi3", "none")
# Settings of the user's that would decide which files are fetched, or where they go.
_DECIDING = frozenset(
    f"PIP_{name}"
    for name in (
        *("ABI", "CONSTRAINT", "DRY_RUN", "LOG", "PLATFORM", "PRE", "PREFER_BINARY", "PREFIX"),
        *("PYTHON", "QUIET", "REQUIREMENT", "REQUIRE_VIRTUALENV", "ROOT", "TARGET", "USER"),
    )
)
_PIP_NAMES = ("XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_CACHE_HOME")
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_TAIL = 12


def wheelhouse(environment: Environment, cache: Path) -> Path:
    """Return where an environment's wheelhouse lies, or will."""
    return cache / _ROOM / sha256_json(_identity(environment))[:16]


def is_whole(environment: Environment, cache: Path) -> bool:
    """Return whether an environment's wheelhouse is there."""
    return (wheelhouse(environment, cache) / DESCRIPTION).is_file()


def list_packages(folder: Path) -> list[Path]:
    """Return the packages in a wheelhouse, by name."""
    return sorted(path for path in folder.iterdir() if path.name != DESCRIPTION)


def fetch(environment: Environment, *, cache: Path, offline: bool, on_progress: OnProgress) -> Path:
    """Fetch the packages of an environment's lock where they are not there; return their folder.

    Raises:
        PinError: The lock names a package without a hash, or a package is not the one it names.
        EnvironmentFailure: The packages cannot be fetched.
        OutOfSpace: The disk is full.
    """
    place = wheelhouse(environment, cache)
    if not is_whole(environment, cache):
        check_platform()

        def tell(holder: object) -> None:
            on_progress(None, f"waiting for {holder}, which fetches the same packages")

        with hold(_lock(place), on_wait=tell):
            if not is_whole(environment, cache):
                _fetch(environment, place, offline, on_progress)
    os.utime(place / DESCRIPTION)
    return place


def prune(cache: Path, keep: Collection[Environment], *, dry_run: bool = False) -> list[Installed]:
    """Remove the wheelhouses of all but some environments; returns what went.

    What is being fetched stays, and so do the packages of the host environment's own.
    """
    kept = {wheelhouse(one, cache).name for one in keep}
    gone = []
    for folder in sorted((cache / _ROOM).glob("*/")):
        name = folder.name.removeprefix(".").partition("-")[0]
        unfinished = folder.name.startswith(".")
        ours = unfinished or (folder / DESCRIPTION).is_file()
        if not ours or (name in kept and not unfinished):
            continue
        found = Installed(
            name=_name(folder),
            kind="unfinished" if unfinished else "wheels",
            digest=name,
            folder=folder,
            bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            used=folder.stat().st_mtime,
        )
        if not dry_run:
            try:
                with exclude(_lock(folder.with_name(name)), f"{folder} is in use."):
                    remove(folder)
            except Held:
                continue
        gone.append(found)
    return gone


def _name(folder: Path) -> str:
    try:
        return str(json.loads((folder / DESCRIPTION).read_bytes())["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unfinished"


@dataclass(frozen=True, kw_only=True)
class _Pip:
    log: Path
    variables: Mapping[str, str]

    def start(
        self,
        command: Sequence[str],
        on_line: OnProgress,
        packages: Sequence[Locked] = (),
    ) -> None:
        tail: deque[str] = deque(maxlen=_TAIL)
        begun: set[str] = set()
        message = "asking for packages"
        options = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        pip = [sys.executable, "-m", "pip", *command, *options]
        try:
            with self.log.open("a", encoding="utf-8") as log:
                for line in follow(pip, self.variables, self.log.parent):
                    if line:
                        tail.append(line)
                        log.write(f"{line}\n")
                        log.flush()
                    verb, _, rest = line.strip().partition(" ")
                    if verb == "Collecting":
                        begun.add(rest)
                    if verb in ("Collecting", "Downloading", "Saved"):
                        message = f"{verb.lower()} {rest.partition(' (from')[0]}"
                    share = max(0, len(begun) - 1) / len(packages) if packages else None
                    on_line(share, message)
        except CommandFailed:
            raise _failure("\n".join(tail), self.log, packages) from None


def _fetch(environment: Environment, place: Path, offline: bool, on_progress: OnProgress) -> None:
    locked = read_lock(environment.lock)
    settings = read_settings(environment.settings)
    if offline and locked:
        raise EnvironmentFailure(
            f"The packages of the {environment.name} image are not in the cache.",
            "--offline was given, so nothing was downloaded.",
            "Run the same command once without --offline.",
        )
    require_disk(place, settings.bytes, f"the packages of the {environment.name} image")
    if locked:
        size = human_bytes(settings.bytes)
        on_progress(
            None,
            f"downloading {len(locked)} packages of the {environment.name} image, "
            f"{size} when installed",
        )
    log = place.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    with making(place, environment.name, _identity(environment), log) as made:
        work = made / "work"
        work.mkdir()
        variables = _variables() | dict(settings.variables) | {"TMPDIR": str(work)}
        pip = _Pip(log=log, variables=variables)
        seed = [one for one in locked if one.name in settings.seed]
        # What comes as source says its own name only when run, which takes what it is built with.
        tools = work / "tools"
        if seed:
            _download(pip, seed, made, on_progress)
            _install(pip, seed, made, tools, on_progress)
        built = _Pip(log=log, variables={**variables, "PYTHONPATH": str(tools)})
        _download(built, locked, made, on_progress)
        shutil.rmtree(work)
        _require_all(locked, made, environment.lock)


def _download(pip: _Pip, packages: Sequence[Locked], made: Path, on_progress: OnProgress) -> None:
    options = [f"--platform={one}" for one in PLATFORMS] + [f"--abi={one}" for one in _ABIS]
    for part, where in split(packages):
        lock = _write(part, made / "work" / "lock.txt")
        command = ["download", "--require-hashes", "--no-deps", "--no-build-isolation", *where]
        command += [*_ANY_KIND, *_PYTHON, *options, "--requirement", str(lock), "--dest", str(made)]
        pip.start(command, on_progress, part)


def _install(
    pip: _Pip, packages: Sequence[Locked], made: Path, target: Path, on_progress: OnProgress
) -> None:
    lock = _write(packages, made / "work" / "seed.txt")
    command = ["install", "--no-index", "--find-links", str(made), "--no-deps", "--require-hashes"]
    command += [*_ANY_KIND, "--no-compile", "--target", str(target), "--requirement", str(lock)]
    pip.start(command, lambda *_: on_progress(None, "preparing what builds packages"))


def _write(packages: Sequence[Locked], path: Path) -> Path:
    path.write_text("".join(f"{one.text}\n" for one in packages), encoding="utf-8")
    return path


def _require_all(locked: Sequence[Locked], made: Path, lock: Path) -> None:
    """Raise PinError unless there is one file for each package, with a hash that the lock has for
    it.
    """
    digests = {f"sha256:{sha256_file(path)}" for path in made.iterdir()}
    missing = [one.name for one in locked if not any(text in one.text for text in digests)]
    if missing or len(digests) != len({normalize(one.name) for one in locked}):
        raise PinError(
            f"What pip fetched is not what {lock} names.",
            f"Without a file: {', '.join(missing) or 'none'}; {len(digests)} files in all.",
            "Look at pip's settings: pip config debug.",
        )


def _variables() -> dict[str, str]:
    given = {name: os.environ[name] for name in (*_PIP_NAMES, *_BUNDLES) if name in os.environ}
    return {
        name: value
        for name, value in (installer_variables() | given).items()
        if name not in _DECIDING and not name.startswith("UV_")
    }


def _identity(environment: Environment) -> dict[str, str]:
    return {"lock": sha256_file(environment.lock), "platforms": " ".join((*PLATFORMS, *_ABIS))}


def _lock(place: Path) -> Path:
    return place.parent.parent / "locks" / f"{place.parent.name}-{place.name}.lock"


def _failure(said: str, log: Path, packages: Sequence[Locked]) -> KilnError:
    lower = said.lower()
    kept = f"The whole log is {log}."
    if "do not match the hashes" in lower:
        return PinError(
            "A package is not the one that the lock names.",
            said,
            f"An index or a mirror serves another file; look at pip config debug. {kept}",
        )
    if "no space left" in lower or "errno 28" in lower or "disk quota" in lower:
        return OutOfSpace(
            "The disk is full.",
            said,
            "Free some with invoke env.prune, or set MODELKILN_CACHE to a folder on another disk.",
        )
    if is_network(lower) or "newconnectionerror" in lower or "connection broken" in lower:
        return EnvironmentFailure(
            "The packages cannot be downloaded.",
            said,
            "Check the network; behind a proxy or an own certificate authority, set HTTPS_PROXY or "
            f"PIP_CERT. {kept}",
        )
    if blocked := find_blocked(said, packages, index="PIP_INDEX_URL", log=kept):
        return blocked
    return EnvironmentFailure("The packages cannot be fetched.", said, kept)
