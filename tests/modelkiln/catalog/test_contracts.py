"""Contracts: what the repository's say, what extends what, and who a file is for."""

from pathlib import Path

import pytest

from modelkiln.catalog.catalog import load_catalog
from modelkiln.catalog.contracts import UNSEEN
from modelkiln.errors import UsageError
from tests.modelkiln.catalog.shared import CATALOG, FOLDER, SAM2, add_contract


def test_contracts_name_graphs_whole() -> None:
    for contract in CATALOG.contracts.values():
        for graph in contract.graphs:
            for value in (*graph["inputs"], *graph["outputs"]):
                assert value["dtype"] in ("float32", "int64")
                assert all(isinstance(dim, int | str) for dim in value["dims"])


def test_what_no_graph_depends_on_is_kept_from_stages() -> None:
    for contract in CATALOG.contracts.values():
        assert contract.formats
        assert not UNSEEN & contract.golden.keys()
        assert {"name", "version", "graphs", "options", "tolerances"} <= contract.golden.keys()


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


def test_a_contract_extends_another(tmp_path: Path) -> None:
    add_contract(
        tmp_path,
        "mine",
        'extends = "image"\nname = "mine"\npreprocessing = { size = 512 }\n'
        "[options]\nextra = 1\n[tolerances]\nparity = 1e-4\n[inert]\ndecoder = ['a']\n",
    )
    add_contract(
        tmp_path,
        "again",
        'extends = "mine"\nname = "again"\n'
        '[inert]\nencoder = ["b"]\n[options]\nmask_prompt = false\n',
    )
    contracts = load_catalog([FOLDER, tmp_path]).contracts
    image, mine, again = (contracts[one] for one in ("image", "mine", "again"))
    assert (mine.name, mine.summary, mine.graphs) == ("mine", image.summary, image.graphs)
    assert mine.golden["preprocessing"] == {"size": 512}
    assert mine.options == {"mask_prompt": True, "extra": 1}
    assert again.options == {"mask_prompt": False, "extra": 1}
    assert mine.golden == {
        **image.golden,
        "name": "mine",
        "preprocessing": {"size": 512},
        "options": {"mask_prompt": True, "extra": 1},
        "tolerances": {**image.golden["tolerances"], "parity": 1e-4},
        "inert": {"decoder": ["a"]},
    }
    assert again.golden["inert"] == {"decoder": ["a"], "encoder": ["b"]}
    assert image == CATALOG.contracts["image"]


def test_a_contract_may_be_for_some_models(tmp_path: Path) -> None:
    old, new = "sam2_hiera_*", "sam2.1_*"
    text = 'extends = "{}"\nname = "shared"\nversion = {}\nmodels = ["{}"]\n'
    add_contract(tmp_path, "a", text.format("image", 1, new))
    add_contract(tmp_path, "b", text.format("a", 2, old))
    add_contract(tmp_path, "c", 'extends = "a"\nname = "newer"')
    catalog = load_catalog([FOLDER, tmp_path])
    versions = {
        model.name: one.version
        for model in catalog.models.values()
        if (one := catalog.contract("shared", model))
    }
    assert versions == {name: 1 if "2.1" in name else 2 for name in SAM2}
    assert catalog.contracts["b"].models == tuple(n for n in SAM2 if "2.1" not in n)
    assert catalog.models_with("newer") == [n for n in SAM2 if "2.1" in n]
    assert catalog.models_with("shared") == SAM2
    assert catalog.models_with("nothing") == []
    assert "models" not in catalog.contracts["b"].golden
    assert "extends" not in catalog.contracts["b"].golden


def test_a_later_folder_goes_before_for_the_models_that_it_names(tmp_path: Path) -> None:
    name = CATALOG.contracts["image"].models[0]
    text = f'extends = "image"\nmodels = ["{name}"]\nversion = 7\n'
    add_contract(tmp_path, "mine", text)
    catalog = load_catalog([FOLDER, tmp_path])
    versions = {
        m.name: one.version
        for m in catalog.models.values()
        if (one := catalog.contract("image", m))
    }
    assert versions == {n: 7 if n == name else 1 for n in SAM2}


def test_two_files_that_claim_one_model_are_both_named(tmp_path: Path) -> None:
    text = 'extends = "image"\nname = "shared"\nmodels = ["{}"]\n'
    first = add_contract(tmp_path, "a", text.format("sam2.1_hiera_tiny"))
    second = add_contract(tmp_path, "b", text.format("*_tiny"))
    with pytest.raises(UsageError, match="what shared is for sam2") as caught:
        load_catalog([FOLDER, tmp_path])
    assert str(first) in caught.value.what and str(second) in caught.value.what
    second.write_text(text.format("sam2_hiera_tiny"))
    assert load_catalog([FOLDER, tmp_path]).models_with("shared") == [
        "sam2_hiera_tiny",
        "sam2.1_hiera_tiny",
    ]
