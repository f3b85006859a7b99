"""A catalog folder with a SAM 2.1 tiny shrunken to pictures of 128 pixels, built within seconds.

Its contracts are the catalog's own, with maps an eighth as large on each side.
"""

import re
from pathlib import Path
from typing import Final

from modelkiln.paths import REPOSITORY

MODEL: Final = "sam2_small"
_FAMILY: Final = "sam2-small"
_SIDE: Final = 128
_OVERRIDES: Final = (
    f"model.image_size={_SIDE}",
    "model.memory_attention.num_layers=1",
    "model.image_encoder.trunk.embed_dim=16",
    "model.image_encoder.trunk.stages=[1,2,3,1]",
    "model.image_encoder.trunk.global_att_blocks=[4]",
    "model.image_encoder.neck.backbone_channel_list=[128,64,32,16]",
)


def write_catalog(folder: Path, *contracts: str) -> None:
    """Writes the model and these contracts of the catalog, each the name of its file, for it; one
    that extends another comes after that.
    """
    models = (REPOSITORY / "catalog" / "models" / "sam2.toml").read_text(encoding="utf-8")
    entry = re.search(r'^\[models\."sam2\.1_hiera_tiny"\]\n(?:.+\n)+', models, re.MULTILINE)
    assert entry is not None
    text = models[: models.index("[models.")] + entry[0]
    text = _replace(text, 'family = "sam2"', f'family = "{_FAMILY}"')
    text = _replace(text, "sam2.1_hiera_tiny.pt", f"{MODEL}.pt", count=2)
    text = _replace(text, '"sam2.1_hiera_tiny"', MODEL)
    text = _replace(text, 'patches = "', f'patches = "{REPOSITORY}/')
    text = _replace(text, "overrides = []", f"overrides = {list(_OVERRIDES)}")
    _write(folder / "models" / "sam2_small.toml", text)
    for stem in contracts:
        file = f"{stem}.toml"
        text = (REPOSITORY / "catalog" / "contracts" / file).read_text(encoding="utf-8")
        if found := re.match(r'(?:#.*\n|\n)*extends = "(.+)"\n', text):
            assert found[1] in contracts[: contracts.index(stem)]
            text = _replace(text, f'extends = "{found[1]}"', f'extends = "small-{found[1]}"')
        else:
            text = _replace(text, 'families = ["sam2"]', f'families = ["{_FAMILY}"]')
            text = _replace(text, "size = 1024", f"size = {_SIDE}")
        text = text.replace('models = ["sam2.1_*"]', f'models = ["{MODEL}"]')
        text = re.sub(r"dims = \[([^\]]*)\]", _shrink, text)
        _write(folder / "contracts" / f"small-{file}", text)


def _replace(text: str, old: str, new: str, count: int = 1) -> str:
    assert text.count(old) == count, old
    return text.replace(old, new)


def _shrink(found: re.Match[str]) -> str:
    """Maps become smaller; so do tables with a row for each cell of the coarsest map."""
    dims = found[1].split(", ")
    if len(dims) >= 4 and dims[-1] == dims[-2] and dims[-1].isdigit():
        dims[-2:] = [str(int(dims[-1]) * _SIDE // 1024)] * 2
    cells = str((_SIDE // 16) ** 2)
    return f"dims = [{', '.join(cells if one == '4096' else one for one in dims)}]"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
