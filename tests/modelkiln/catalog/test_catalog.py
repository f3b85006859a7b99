"""The catalog: the pins are whole, and a wrong file is named."""

import re
from pathlib import Path

import pytest

from modelkiln.catalog.catalog import load_catalog
from modelkiln.errors import UsageError
from tests.modelkiln.catalog.shared import CATALOG, FOLDER


def test_sixteen_models_with_whole_pins() -> None:
    sizes = ("tiny", "small", "base_plus", "large")
    sam2 = {f"sam2{v}_hiera_{s}" for v in ("", ".1") for s in sizes}
    dinov2 = {f"dinov2_vit{s}14{r}" for s in "sblg" for r in ("", "_reg4")}
    assert set(CATALOG.models) == sam2 | dinov2
    for model in CATALOG.models.values():
        pin = model.checkpoint
        assert re.fullmatch(r"[0-9a-f]{64}", pin.sha256)
        assert pin.bytes > 80_000_000
        assert pin.url.startswith("https://") and pin.url.endswith(pin.file)
        assert pin.license == "Apache-2.0"


def test_no_two_models_share_a_pin() -> None:
    pins = [model.checkpoint for model in CATALOG.models.values()]
    for name in ("sha256", "bytes", "url", "file"):
        assert len({getattr(pin, name) for pin in pins}) == len(pins)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no catalog folder"):
        load_catalog([FOLDER, tmp_path / "gone"])
