"""The upstream package: exactly the wheel's files, or a patched copy of them.

The environment holds upstream untouched. `reference` and `ingest` use it as it is; `export` works
on a copy with the patch series applied, which it puts first on its path.
"""

import hashlib
import importlib.util
import io
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exporters.protocol import STAGE_FAILED, StageError

if TYPE_CHECKING:
    from dulwich.patch import FilePatch, PatchHunk

PIN_MISMATCH: Final = 3
_SUFFIXES: Final = (".py", ".yaml")
_NOTHING: Final = "/dev/null"
_NAMED: Final = re.compile(rb"^(?:---|\+\+\+) (\S+)", re.MULTILINE)
_SPECIAL: Final = re.compile(
    rb"^(?:(?:rename|copy|(?:old|new) mode) |(?:new|deleted) file mode (?!100644$))", re.MULTILINE
)


@dataclass(frozen=True, kw_only=True)
class _Edit:
    """What a patch does to one file; `sides` are the names that it gives the file."""

    path: str
    sides: tuple[str, ...]
    patch: "FilePatch"


def package_digest(folder: Path) -> str:
    """Return the SHA-256 over the names and contents of a package's .py and .yaml files, sorted by
    name.
    """
    whole = hashlib.sha256()
    for file in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        if file.suffix in _SUFFIXES and file.is_file():
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            whole.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    return whole.hexdigest()


def installed_folder(package: str) -> Path:
    """Return the folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StageError(
            f"The environment has no package {package}.",
            "It was not installed from its lock, or another Python is running.",
            "Run invoke doctor, which checks the environments.",
            exit_code=4,
        )
    return Path(next(iter(spec.submodule_search_locations)))


def check_upstream(upstream: Mapping[str, Any]) -> Path:
    """Compare the package with its pin: `package`, `version` and `digest`.

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
            f"{upstream['package']} in the environment is not the pinned {upstream['version']}.",
            f"The digest of its files is {found}, the catalog says {upstream['digest']}; "
            "someone edited the installed package, or another one is on the path.",
            "Run invoke env.prune --all, then build again.",
            exit_code=PIN_MISMATCH,
        )
    return folder


def use_patched(
    upstream: Mapping[str, Any], patches: Mapping[str, Path], scratch: Path
) -> tuple[str, ...]:
    """Put a patched copy of upstream first on the path, for this process.

    Without patches the installed package is what is used.

    Args:
        upstream: The pin, as for `check_upstream`.
        patches: `series` and the patch files that it lists, by name; empty where there are none.
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
            f"{package} was loaded before its patches were applied.",
            "A module of the stage imports it too early.",
            "Import upstream inside functions only.",
        )
    if not patches:
        return ()
    names = apply_series(folder, patches, scratch)
    sys.path.insert(0, str(scratch))
    importlib.invalidate_caches()
    if installed_folder(package).resolve() != (scratch / package).resolve():
        raise StageError(
            f"The patched copy of {package} is not the one that Python finds.",
            "Something stands before it on the path.",
            "Report this as a fault of the stage.",
        )
    return names


def apply_series(package: Path, patches: Mapping[str, Path], scratch: Path) -> tuple[str, ...]:
    """Copy a package into `scratch` and applies a patch series to the copy.

    A patch applies where its hunks say, every line of context as it is, or not at all.
    """
    scratch = scratch.resolve()
    scratch.mkdir(parents=True)
    copy = scratch / package.name
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    names = _read_series(patches)
    for name in names:
        edits = _parse_patch(name, patches[name].read_bytes(), package.name)
        # A file is written only when the whole patch is known to apply.
        changed: dict[str, bytes | None] = {}
        for edit in edits:
            before = changed[edit.path] if edit.path in changed else _content(scratch / edit.path)
            changed[edit.path] = _apply(name, edit, before)
        for path, content in changed.items():
            if content == _content(scratch / path):
                raise _bad_patch(name, f"It leaves {path} as it was.")
            _write(scratch / path, content)
    return names


def _read_series(patches: Mapping[str, Path]) -> tuple[str, ...]:
    if "series" not in patches:
        raise _bad_patch("series", "The list of patches is missing.")
    lines = patches["series"].read_text(encoding="utf-8").splitlines()
    names = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if set(names) != set(patches) - {"series"} or len(set(names)) != len(names):
        raise _bad_patch(
            "series",
            f"It lists {', '.join(names) or 'nothing'}, and the folder holds "
            f"{', '.join(sorted(set(patches) - {'series'})) or 'nothing'}.",
        )
    return names


def _parse_patch(name: str, text: bytes, package: str) -> list[_Edit]:
    """Return the edits of a patch; refused where any of its lines would be passed over."""
    from dulwich.patch import parse_unified_diff

    if b"\r" in text:
        raise _bad_patch(name, "It has carriage returns; patches end their lines with LF alone.")
    try:
        found = parse_unified_diff(text)
    except ValueError as error:
        raise _bad_patch(name, f"It is malformed; dulwich says: {error}") from None
    if _SPECIAL.search(text) or any(one.binary for one in found):
        raise _bad_patch(name, "It renames files, changes modes or makes links.")
    edits = [_edit(name, one, package) for one in found]
    named = {path.decode(errors="replace") for path in _NAMED.findall(text)} - {_NOTHING}
    for path in sorted(named):
        _inside(name, path, package)
    if not edits or not named:
        raise _bad_patch(name, "It changes no file.")
    body = text[text.index(b"diff --git ") :]
    heads = sum(line.startswith(b"@@") for line in body.splitlines())
    if named != {side for edit in edits for side in edit.sides} or heads != sum(
        len(edit.patch.hunks) for edit in edits
    ):
        raise _bad_patch(name, "It is malformed: some of its lines belong to no file's changes.")
    return edits


def _edit(name: str, patch: "FilePatch", package: str) -> _Edit:
    given = [side for side in (patch.old_path, patch.new_path) if side is not None]
    sides = [side.decode(errors="replace") for side in given]
    paths = {_inside(name, side, package) for side in sides}
    if len(paths) != 1 or not patch.hunks:
        raise _bad_patch(name, f"It does not say what changes in {' and '.join(sorted(paths))}.")
    end = 0
    for hunk in patch.hunks:
        marks = [line[:1] for line in hunk.lines]
        old, new = (sum(mark in (b" ", side) for mark in marks) for side in (b"-", b"+"))
        if (old, new) != (hunk.old_count, hunk.new_count) or hunk.old_start < end:
            raise _bad_patch(name, f"It is malformed at line {hunk.old_start} of {min(paths)}.")
        end = hunk.old_start + hunk.old_count
    return _Edit(path=min(paths), sides=tuple(sides), patch=patch)


def _inside(name: str, path: str, package: str) -> str:
    """Return the file that one side of a patch names, as a path below the package's parent."""
    side, _, target = path.partition("/")
    if side not in ("a", "b") or {"", ".", ".."} & set(target.split("/")) or "\\" in target:
        raise _bad_patch(name, f"It names {path}, which does not lie below a/ or b/.")
    if target.split("/")[0] != package:
        raise _bad_patch(name, f"It names {path}, which is outside the package {package}.")
    return target


def _apply(name: str, edit: _Edit, before: bytes | None) -> bytes | None:
    """Return what a file holds after an edit; None where there is no file."""
    from dulwich.patch import apply_patch_hunks

    creates, deletes = edit.patch.old_path is None, edit.patch.new_path is None
    if creates != (before is None):
        state = "is there already" if creates else "is missing"
        raise _bad_patch(name, f"The patch does not apply: {edit.path} {state}.")
    old = io.BytesIO(before or b"").readlines()
    exact = creates or all(_is_anchored(hunk, len(old)) for hunk in edit.patch.hunks)
    lines = apply_patch_hunks(edit.patch, old) if exact else None
    if lines is None:
        raise _bad_patch(name, f"The patch does not apply: {edit.path} has other lines there.")
    if deletes and lines:
        raise _bad_patch(name, f"The patch does not apply: {edit.path} has lines that it leaves.")
    return None if deletes else b"".join(lines)


def _is_anchored(hunk: "PatchHunk", length: int) -> bool:
    """Return whether lines of context follow the last change, or, as git wants it, the file's end
    does.
    """
    marks = [line[:1] for line in hunk.lines if line[:1] != b"\\"]
    return marks[-1:] == [b" "] or hunk.old_start + max(hunk.old_count, 1) - 1 == length


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _write(path: Path, content: bytes | None) -> None:
    # Anew, because the copy of a file that may not be written may not be written either.
    path.unlink(missing_ok=True)
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _bad_patch(name: str, why: str) -> StageError:
    return StageError(
        f"The patch {name} cannot be applied.",
        why,
        "Make the patch anew against the pinned version.",
        exit_code=STAGE_FAILED,
    )
