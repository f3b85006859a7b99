"""The repository's catalog, and what tests add to one."""

from pathlib import Path

from modelkiln.catalog.catalog import load_catalog
from modelkiln.catalog.selection import select_targets
from modelkiln.catalog.weights import OfficialWeights
from modelkiln.paths import REPOSITORY

FOLDER = REPOSITORY / "catalog"
CATALOG = load_catalog([FOLDER])
SAM2 = [name for name, model in CATALOG.models.items() if model.family == "sam2"]
OFFICIAL = OfficialWeights()


def names(*texts: str, **overrides: str) -> list[str]:
    return [one.name for one in select_targets(CATALOG, texts, OFFICIAL, overrides)]


def add_contract(folder: Path, stem: str, text: str) -> Path:
    path = folder / "contracts" / f"{stem}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path
