"""Where things lie: the repository, the artifacts, the shared cache, the catalog."""

import os
from collections.abc import Mapping
from pathlib import Path

from modelkiln.errors import EnvironmentFailure

REPOSITORY = Path(__file__).resolve().parent.parent


def artifacts_root(variables: Mapping[str, str] | None = None) -> Path:
    """Return the store's folder: ``$MODELKILN_ARTIFACTS``, else artifacts/ in the repository."""
    named = _variables(variables).get("MODELKILN_ARTIFACTS", "")
    return _absolute(named) if named else REPOSITORY / "artifacts"


def cache_root(variables: Mapping[str, str] | None = None) -> Path:
    """Return the folder of environments and downloaded weights, shared between clones.

    ``$MODELKILN_CACHE``, else modelkiln/ in ``$XDG_CACHE_HOME`` (which counts only when absolute,
    as the XDG Base Directory specification says), else ~/.cache/modelkiln.

    Raises:
        EnvironmentFailure: No home folder is known.
    """
    given = _variables(variables)
    if named := given.get("MODELKILN_CACHE", ""):
        return _absolute(named)
    shared = given.get("XDG_CACHE_HOME", "")
    if shared.startswith("/"):
        return Path(shared) / "modelkiln"
    if home := given.get("HOME", ""):
        return Path(home) / ".cache" / "modelkiln"
    raise EnvironmentFailure(
        "No folder for the cache is known.",
        "None of MODELKILN_CACHE, XDG_CACHE_HOME and HOME is set.",
        "Set MODELKILN_CACHE to a folder with 10 GB of free disk.",
    )


def catalog_folders(variables: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Return the repository's catalog, then the folders of ``$MODELKILN_CATALOG`` that add to
    it.
    """
    named = _variables(variables).get("MODELKILN_CATALOG", "")
    added = [_absolute(folder) for folder in named.split(os.pathsep) if folder]
    return (REPOSITORY / "catalog", *added)


def _variables(given: Mapping[str, str] | None) -> Mapping[str, str]:
    return os.environ if given is None else given


def _absolute(named: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(named)))  # noqa: PTH100, PTH111
