"""Packages that the user has as files: $MODELKILN_WHEELS names their folder.

What lies there is not asked of an index. So one package that a company's mirror blocks is no
obstacle; its hash is checked all the same.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from modelkiln.environments.lockfile import Locked, normalize
from modelkiln.errors import EnvironmentFailure

VARIABLE = "MODELKILN_WHEELS"
_FILE = re.compile(r"(?P<name>.+?)-(?P<version>\d[^-]*?)(?:-.+\.whl|\.tar\.gz|\.zip)")


def split(packages: Sequence[Locked]) -> list[tuple[list[Locked], list[str]]]:
    """Return packages in two parts, those in the user's folder first, each with the options by
    which uv and pip find it; a part without packages is left out.

    Raises:
        EnvironmentFailure: $MODELKILN_WHEELS names no folder.
    """
    named = os.environ.get(VARIABLE, "")
    there = _list(Path(named).absolute()) if named else frozenset[tuple[str, str]]()
    own = [one for one in packages if (one.name, one.version) in there]
    others = [one for one in packages if (one.name, one.version) not in there]
    options = ["--no-index", "--find-links", str(Path(named).absolute())]
    return [part for part in ((own, options), (others, [])) if part[0]]


def _list(folder: Path) -> frozenset[tuple[str, str]]:
    try:
        names = [one.name for one in folder.iterdir()]
    except OSError as error:
        raise EnvironmentFailure(
            f"{VARIABLE} names {folder}, which cannot be read.",
            str(error.strerror),
            f"Let {VARIABLE} name a folder of packages, or unset it.",
        ) from error
    found = filter(None, map(_FILE.fullmatch, names))
    return frozenset((normalize(one["name"]), one["version"]) for one in found)
