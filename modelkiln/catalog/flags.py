"""Which parameters contracts and formats have, read for the command line and for nothing else.

Every command starts with this, so it looks at the tables alone and ignores errors: what is wrong
with a file is told when the catalog is loaded.
"""

import keyword
import tomllib
from contextlib import suppress

from modelkiln.paths import catalog_folders


def read_flags() -> dict[str, str]:
    """Return what each parameter means, by name; of files that share one, the last that says it."""
    flags: dict[str, str] = {}
    for folder in catalog_folders():
        rooms = (folder / "contracts", folder / "formats")
        for path in (path for room in rooms for path in sorted(room.glob("*.toml"))):
            with suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, AttributeError):
                tables = tomllib.loads(path.read_text(encoding="utf-8")).get("parameters", {})
                for name, table in tables.items():
                    if is_flag(name):
                        flags[name] = str(table.get("help", "")) or flags.get(name, "")
    return flags


def is_flag(name: str) -> bool:
    """Return whether a parameter can have this name: that of an argument in Python."""
    return name.isidentifier() and not keyword.iskeyword(name)
