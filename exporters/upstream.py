"""The upstream package: exactly the wheel's files, or a patched copy of them.

The environment holds upstream untouched. `reference` and `ingest` use it as it is; `export` works
on a copy with the patch series applied, which it puts first on its path.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exporters.protocol import STAGE_FAILED, StageError

PIN_MISMATCH: Final = 3
_SUFFIXES: Final = (".py", ".yaml")
_TARGET: Final = re.compile(r"^(?:---|\+\+\+) (\S+)", re.MULTILINE)


def package_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a package's .py and .yaml files, sorted by name."""
    whole = hashlib.sha256()
    for file in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        if file.suffix in _SUFFIXES and file.is_file():
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            whole.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    return whole.hexdigest()


def installed_folder(package: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StageError(
            f"The environment has no package {package}",
            "it was not installed from its lock, or another Python is running",
            "invoke doctor",
            exit_code=4,
        )
    return Path(next(iter(spec.submodule_search_locations)))


def check_upstream(upstream: Mapping[str, Any]) -> Path:
    """Compares the package with its pin: `package`, `version` and `digest`.

    A copy that is loaded already, or that stands before the installed one on the path, is what
    gets compared: a patched one does not pass.

    Returns:
        The package's folder.

    Raises:
        StageError: Its files are not those of the pinned wheel (exit code 3).
    """
    folder = installed_folder(upstream["package"])
    found = package_digest(folder)
    if found != upstream["digest"]:
        raise StageError(
            f"{upstream['package']} in the environment is not the pinned {upstream['version']}",
            f"the digest of its files is {found}, the catalog says {upstream['digest']}; "
            "someone edited the installed package, or another one is on the path",
            "invoke env.prune --all, then build again",
            exit_code=PIN_MISMATCH,
        )
    return folder


def use_patched(
    upstream: Mapping[str, Any], patches: Mapping[str, Path], scratch: Path
) -> tuple[str, ...]:
    """Puts a patched copy of upstream first on the path, for this process.

    Args:
        upstream: The pin, as for `check_upstream`.
        patches: `series` and the patch files that it lists, by name.
        scratch: A folder that does not exist yet; it takes the copy.

    Returns:
        The names of the patches, in the order in which they were applied.

    Raises:
        StageError: The package differs from its pin or is loaded already, or a patch does not
            apply exactly.
    """
    package = upstream["package"]
    folder = check_upstream(upstream)
    if package in sys.modules:
        raise StageError(
            f"{package} was loaded before its patches were applied",
            "a module of the stage imports it too early",
            "import upstream inside functions only",
        )
    names = apply_series(folder, patches, scratch)
    sys.path.insert(0, str(scratch))
    importlib.invalidate_caches()
    if installed_folder(package).resolve() != (scratch / package).resolve():
        raise StageError(
            f"The patched copy of {package} is not the one that Python finds",
            "something stands before it on the path",
            "report this as a fault of the stage",
        )
    return names


def apply_series(package: Path, patches: Mapping[str, Path], scratch: Path) -> tuple[str, ...]:
    """Copies a package into `scratch` and applies a patch series to the copy, without fuzz."""
    scratch = scratch.resolve()
    scratch.mkdir(parents=True)
    copy = scratch / package.name
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    names = _read_series(patches)
    for name in names:
        text = patches[name].read_bytes()
        targets = _patch_targets(name, text, package.name)
        before = {target: _digest(scratch / target) for target in targets}
        _git_apply(name, patches[name].resolve(), scratch)
        unchanged = [target for target in targets if _digest(scratch / target) == before[target]]
        if unchanged:
            raise _bad_patch(name, f"git apply left {', '.join(unchanged)} as it was")
    return names


def _read_series(patches: Mapping[str, Path]) -> tuple[str, ...]:
    if "series" not in patches:
        raise _bad_patch("series", "the list of patches is missing")
    lines = patches["series"].read_text(encoding="utf-8").splitlines()
    names = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if set(names) != set(patches) - {"series"} or len(set(names)) != len(names):
        raise _bad_patch(
            "series",
            f"it lists {', '.join(names) or 'nothing'}, and the folder holds "
            f"{', '.join(sorted(set(patches) - {'series'})) or 'nothing'}",
        )
    return names


def _patch_targets(name: str, text: bytes, package: str) -> tuple[str, ...]:
    """The files that a patch changes, as paths below the package's parent."""
    if b"\r" in text:
        raise _bad_patch(name, "it has carriage returns; patches end their lines with LF alone")
    body = text.decode("utf-8")
    if re.search(r"^(?:rename|copy) |^(?:new file |old |new )?mode 1[26]0000", body, re.MULTILINE):
        raise _bad_patch(name, "it renames files or makes links; only plain edits are allowed")
    targets: set[str] = set()
    for path in _TARGET.findall(body):
        if path == "/dev/null":
            continue
        side, _, target = path.partition("/")
        if side not in ("a", "b") or ".." in target.split("/") or "\\" in target:
            raise _bad_patch(name, f"it names {path}, which does not lie below a/ or b/")
        if target.split("/")[0] != package:
            raise _bad_patch(name, f"it names {path}, which is outside the package {package}")
        targets.add(target)
    if not targets:
        raise _bad_patch(name, "it changes no file")
    return tuple(sorted(targets))


def _git_apply(name: str, patch: Path, folder: Path) -> None:
    # Inside someone's repository `git apply` would take the paths as relative to its root and
    # skip them without a word: git may not look above the folder, nor read settings.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    command = ["git", "-c", "core.autocrlf=false", "apply", "-p1", "--whitespace=nowarn"]
    try:
        done = subprocess.run(
            [*command, str(patch)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise StageError(
            "The patches cannot be applied",
            "there is no git on the path",
            "apt-get install git",
            exit_code=4,
        ) from None
    if done.returncode:
        reason = " ".join(done.stderr.split()) or "git apply said nothing"
        raise _bad_patch(name, reason)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _bad_patch(name: str, why: str) -> StageError:
    return StageError(
        f"The patch {name} cannot be applied",
        why,
        "make the patch anew against the pinned version",
        exit_code=STAGE_FAILED,
    )
