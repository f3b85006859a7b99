"""The stages of plans, one module each: what a stage is handed, and what it makes.

A stage `NAME` is a module here with a `STAGE`, its work in exporters/stages/NAME.py, and its limits
in an entry of catalog/stages.toml. A further catalog folder may bring stages of its own, in
planning/stages/ beside its exporters/.
"""

import importlib.util
import pkgutil
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path

from modelkiln.errors import UsageError
from modelkiln.planning.stages.making import Stage

STAGES: Mapping[str, Stage] = {
    one.name: import_module(f"{__name__}.{one.name}").STAGE
    for one in pkgutil.iter_modules(__path__)
    if one.name != "making"
}


def find_stages(folders: Iterable[Path]) -> dict[str, Stage]:
    """Return the stages of this package, and those that further catalog folders add.

    Raises:
        UsageError: A folder has a stage of a name that is taken, or one that cannot be loaded.
    """
    stages = dict(STAGES)
    for path in (path for one in folders for path in sorted(one.glob("planning/stages/*.py"))):
        if path.stem in stages:
            raise UsageError(
                f"{path}: there is a stage {path.stem} already.",
                "A further catalog folder adds stages and replaces none.",
                "Give the file another name.",
            )
        stages[path.stem] = _load(path)
    return stages


def _load(path: Path) -> Stage:
    spec = importlib.util.spec_from_file_location(f"{__name__}.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        stage = module.STAGE
        if not isinstance(stage, Stage):
            raise TypeError("its STAGE is not a Stage")
    except Exception as error:
        raise UsageError(
            f"{path} is not a stage.", f"{type(error).__name__}: {error}.", "Correct the file."
        ) from error
    return stage
