"""Reading the catalog's TOML, so that an error names the file and the entry that is wrong."""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from modelkiln.errors import UsageError

# Merged tables whose tables are merged as well, and the tables of those.
DEEP = frozenset({"parameters", "variants"})
TYPE_NAMES = {int: "an integer", str: "a string", dict: "a table", list: "an array"}


def load_table(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        UsageError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read as TOML.", str(error), "Correct it, or restore it with git."
        ) from error


def need(table: Mapping[str, Any], name: str, kind: type, path: Path) -> Any:
    """Return an entry of this type; UsageError where it is missing or of another."""
    value = table.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "missing" if value is None else repr(value)
        raise UsageError(
            f"{path}: `{name}` must be {TYPE_NAMES[kind]}.", f"It is {found}.", "Correct the file."
        )
    return value


def find_files(folders: Sequence[Path], room: str) -> dict[str, Path]:
    """Return the TOML files of a room of catalog folders, by name without suffix; later folders
    win.
    """
    return {
        path.stem: path for folder in folders for path in sorted((folder / room).glob("*.toml"))
    }


def load_merged(
    stem: str, files: Mapping[str, Path], merged: Collection[str], trail: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a file's document with that of the file that its `extends` names, by stem, below it.

    Args:
        files: Those of the room, by stem.
        merged: Tables that are merged entry by entry, `parameters` down to the words that each
            refuses, `variants` to what each value changes; what else the file says replaces what
            the other says.
        trail: The files that led here.

    Raises:
        UsageError: A file is wrong, is not there, or extends itself.
    """
    path = files[stem]
    if stem in trail:
        raise UsageError(
            f"{files[trail[-1]]} extends {path}, and so itself.",
            f"The files go round: {' -> '.join([*trail[trail.index(stem) :], stem])}.",
            "Take `extends` out of one of them.",
        )
    data = load_table(path)
    if "extends" not in data:
        return data
    base = need(data, "extends", str, path)
    if base not in files:
        raise UsageError(
            f"{path} extends {path.with_name(base + '.toml')}, which is not there.",
            f"`extends` is a file of {path.parent.name}/ without its suffix: "
            f"{', '.join(sorted(files))}.",
            "Correct it, or restore the file with git.",
        )
    document = load_merged(base, files, merged, (*trail, stem))
    for name, value in data.items():
        if name in merged:
            depth = 2 if name in DEEP else 0
            document[name] = _merge(document.get(name, {}), need(data, name, dict, path), depth)
        elif name != "extends":
            document[name] = value
    document.pop("extends", None)
    return document


def _merge(base: Mapping[str, Any], own: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Return a table over another; tables in it are merged as well, as deep as `depth` says."""
    merged = dict(base)
    for key, value in own.items():
        below = base.get(key)
        if depth and isinstance(below, dict) and isinstance(value, dict):
            merged[key] = _merge(below, value, depth - 1)
        else:
            merged[key] = value
    return merged


def choose_models(path: Path, data: Mapping[str, Any], known: Sequence[str]) -> tuple[str, ...]:
    """Return the models that a document's `models`, globs, are for; all of them where it has none.

    Raises:
        UsageError: A glob matches no model.
    """
    if "models" not in data:
        return tuple(known)
    patterns = [str(one) for one in need(data, "models", list, path)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UsageError(
                f"{path}: `models` has {pattern!r}, which is not a model.",
                f"The models that it can be for are {', '.join(known) or 'none'}.",
                "Correct the file.",
            )
    return tuple(name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns))
