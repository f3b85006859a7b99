"""The catalog: the pins are whole, and a wrong file is named."""

import re
from pathlib import Path

import pytest

from modelkiln.catalog import load_catalog
from modelkiln.errors import UsageError
from modelkiln.paths import REPOSITORY

FOLDER = REPOSITORY / "catalog"
CATALOG = load_catalog([FOLDER])


def test_eight_models_with_whole_pins() -> None:
    sizes = ("tiny", "small", "base_plus", "large")
    assert set(CATALOG.models) == {f"sam2{v}_hiera_{s}" for v in ("", ".1") for s in sizes}
    for model in CATALOG.models.values():
        pin = model.checkpoint
        assert re.fullmatch(r"[0-9a-f]{64}", pin.sha256)
        assert pin.bytes > 100_000_000
        assert pin.url.startswith("https://") and pin.url.endswith(pin.file)
        assert pin.license == "Apache-2.0"


def test_no_two_models_share_a_pin() -> None:
    pins = [model.checkpoint for model in CATALOG.models.values()]
    for name in ("sha256", "bytes", "url", "file"):
        assert len({getattr(pin, name) for pin in pins}) == len(pins)


def test_contracts_name_graphs_whole() -> None:
    for contract in CATALOG.contracts.values():
        for graph in contract.graphs:
            for value in (*graph["inputs"], *graph["outputs"]):
                assert value["dtype"] == "float32"
                assert all(isinstance(dim, int | str) for dim in value["dims"])


def test_image_is_the_seven_input_contract() -> None:
    encoder, decoder = CATALOG.contracts["image"].graphs
    assert [value["name"] for value in encoder["inputs"]] == ["image"]
    assert [value["name"] for value in encoder["outputs"]] == [
        "high_res_feats_0",
        "high_res_feats_1",
        "image_embed",
    ]
    assert [value["name"] for value in decoder["inputs"]] == [
        "image_embed",
        "high_res_feats_0",
        "high_res_feats_1",
        "point_coords",
        "point_labels",
        "mask_input",
        "has_mask_input",
    ]
    assert [value["name"] for value in decoder["outputs"]] == ["masks", "iou_predictions"]


def test_treedect_has_five_inputs_and_a_dynamic_batch() -> None:
    encoder, decoder = CATALOG.contracts["treedect"].graphs
    assert encoder["inputs"][0]["dims"][0] == "batch"
    assert len(decoder["inputs"]) == 5


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version = 1", "version = ", "cannot be read as TOML"),
        ("version = 1", 'version = "one"', "`version` must be an integer"),
        ("version = 1", "", "`version` must be an integer"),
        ('example = "image.py"', 'example = "none.py"', "examples/none.py"),
        ('"astronaut.jpg"', '"gone.jpg"', "pictures/gone.jpg"),
    ],
)
def test_a_wrong_contract_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "contracts").mkdir()
    text = (FOLDER / "contracts" / "image.toml").read_text()
    assert old in text
    (tmp_path / "contracts" / "image.toml").write_text(text.replace(old, new))
    with pytest.raises(UsageError) as caught:
        load_catalog([FOLDER, tmp_path])
    assert said in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no catalog folder"):
        load_catalog([FOLDER, tmp_path / "gone"])
