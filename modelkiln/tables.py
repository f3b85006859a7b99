"""Reading the catalog's TOML, so that an error names the file and the entry that is wrong."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelkiln.errors import UsageError

TYPE_NAMES = {int: "an integer", str: "a string", dict: "a table", list: "an array"}


def load_table(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

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
    """An entry of this type; UsageError where it is missing or of another."""
    value = table.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "missing" if value is None else repr(value)
        raise UsageError(
            f"{path}: `{name}` must be {TYPE_NAMES[kind]}.", f"It is {found}.", "Correct the file."
        )
    return value
