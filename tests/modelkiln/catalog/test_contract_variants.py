"""What the value of a parameter changes in a contract, and what a wrong table says."""

from pathlib import Path

import pytest

from modelkiln.catalog.catalog import load_catalog
from modelkiln.catalog.contract_variants import apply_changes
from modelkiln.catalog.selection import select_targets
from modelkiln.catalog.target import Target
from modelkiln.errors import UsageError
from tests.modelkiln.catalog.shared import CATALOG, FOLDER, OFFICIAL, add_contract, names

MINE = """
extends = "image"
name = "mine"
[parameters.shape]
default = "free"
choices = ["free", "fixed", "other"]
token = "{}"
stages = ["export", "convert", "verify"]
"""
FIXED = """
[variants.shape.fixed.options]
mask_prompt = false
fixed = true
[[variants.shape.fixed.graphs]]
name = "encoder"
file = "encoder.onnx"
forbidden_ops = ["Shape"]
inputs = [{ name = "image", dtype = "float32", dims = [1, 3, "{embed * 2}", 7] }]
outputs = [{ name = "image_embed", dtype = "float32", dims = [1, 2] }]
"""


def _target(folder: Path, text: str) -> Target:
    (target,) = select_targets(load_catalog([FOLDER, folder]), [text], OFFICIAL)
    return target


def test_a_value_replaces_graphs_and_options(tmp_path: Path) -> None:
    text = FIXED.replace("{embed * 2}", "{2 * 21}")
    add_contract(tmp_path, "mine", MINE + text)
    free = _target(tmp_path, "sam2_hiera_tiny/mine/onnx-fp32")
    fixed = _target(tmp_path, "sam2_hiera_tiny/mine@fixed/onnx-fp32")
    image = _target(tmp_path, "sam2_hiera_tiny/image/onnx-fp32")
    assert free.golden == {**image.golden, "name": "mine"}
    assert free.golden == _target(tmp_path, "sam2_hiera_tiny/mine@other/onnx-fp32").golden
    assert [one["name"] for one in fixed.graphs] == [one["name"] for one in free.graphs]
    assert fixed.graphs[0]["inputs"][0]["dims"] == [1, 3, 42, 7]
    assert fixed.graphs[1:] == free.graphs[1:]
    assert free.options == {"mask_prompt": True}
    assert fixed.options == {"mask_prompt": False, "fixed": True}
    assert {**fixed.golden, "graphs": [], "options": {}} == {
        **free.golden,
        "graphs": [],
        "options": {},
    }


def test_a_contract_that_extends_another_has_its_variants(tmp_path: Path) -> None:
    add_contract(tmp_path, "mine", MINE + FIXED.replace("{embed * 2}", "{1}"))
    add_contract(tmp_path, "heir", 'extends = "mine"\nname = "heir"\nversion = 3')
    add_contract(
        tmp_path,
        "other",
        'extends = "mine"\nname = "other"\n'
        "[variants.shape.fixed.options]\nround = 1\n[variants.shape.other.options]\nround = 2\n",
    )
    heir = _target(tmp_path, "sam2_hiera_tiny/heir@fixed/onnx-fp32")
    assert (heir.golden["version"], heir.options["fixed"]) == (3, True)
    # Like another's parameter, its variants are replaced part by part.
    mine, other = (load_catalog([FOLDER, tmp_path]).contracts[one] for one in ("mine", "other"))
    graphs = mine.changes["shape"]["fixed"]["graphs"]
    assert other.changes == {
        "shape": {
            "fixed": {"graphs": graphs, "options": {"round": 1}},
            "other": {"options": {"round": 2}},
        }
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("variants = 3\n", "`variants` must be a table"),
        ("[variants]\nshape = 3\n", "`shape` must be a table"),
        ("[variants.shape]\nfixed = 3\n", "`fixed` must be a table"),
        ("[variants.form.fixed]\n", "`variants` has 'form'"),
        ("[variants.shape.round]\n", "`variants.shape` has 'round'"),
        ("[variants.shape.fixed]\ndims = [1]\n", "`variants.shape.fixed` has 'dims'"),
        ("[variants.shape.fixed]\noptions = 3\n", "`options` must be a table"),
        ("[variants.shape.fixed]\ngraphs = 3\n", "`graphs` must be an array"),
        ("[variants.shape.fixed]\ngraphs = [3]\n", "replaced are 3"),
        ("[variants.shape.fixed]\ngraphs = [{}]\n", "`name` must be a string"),
        ('[variants.shape.fixed]\ngraphs = [{ name = "codec" }]\n', "replaced are codec"),
        (FIXED + FIXED[FIXED.index("[[") :], "replaced are encoder, encoder"),
    ],
)
def test_a_wrong_table_is_named_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    start = text + MINE if text.startswith("variants") else MINE + text
    path = add_contract(tmp_path, "mine", start)
    with pytest.raises(UsageError) as caught:
        load_catalog([FOLDER, tmp_path])
    assert said in str(caught.value)
    assert str(path) in caught.value.what


def test_a_parameter_of_any_value_has_no_variants(tmp_path: Path) -> None:
    size = '\n[parameters.shape]\ndefault = 3\nleast = 1\nmost = 5\ntoken = "s{}"\nstages = []\n'
    text = 'extends = "image"\nname = "mine"' + size + "[variants.shape.3.options]\nfixed = true\n"
    add_contract(tmp_path, "mine", text)
    with pytest.raises(UsageError, match="`variants` has 'shape'") as caught:
        load_catalog([FOLDER, tmp_path])
    assert "Its parameters with choices are opset" in caught.value.why


def test_nothing_changes_a_document_without_variants() -> None:
    golden = CATALOG.contracts["image"].golden
    assert apply_changes(golden, {}, {}) is golden


@pytest.mark.parametrize("model", ["sam2.1_hiera_tiny", "sam2_hiera_large"])
def test_the_static_tracker_has_no_free_axis_but_the_decoders(model: str) -> None:
    (static,) = select_targets(CATALOG, [f"{model}/tracker-ex@static/onnx-fp32"], OFFICIAL)
    (dynamic,) = select_targets(CATALOG, [f"{model}/tracker-ex/onnx-fp32"], OFFICIAL)
    assert names(f"{model}/tracker-ex/onnx-fp32", memory_bank="static") == [static.name]
    for graph in static.graphs:
        values = (*graph["inputs"], *graph["outputs"])
        free = {dim for value in values for dim in value["dims"] if isinstance(dim, str)}
        assert free == ({"batch", "num_points"} if graph["name"] == "mask_decoder" else set())
    assert static.options == {**dynamic.options, "static": True}
    assert "static" not in dynamic.options
    for one, other in zip(static.graphs, dynamic.graphs, strict=True):
        assert (one["name"], one["file"]) == (other["name"], other["file"])
        shared = [value["name"] for value in other["inputs"]]
        assert [value["name"] for value in one["inputs"]][: len(shared)] == shared
        assert [value["name"] for value in one["outputs"]] == [
            value["name"] for value in other["outputs"]
        ]


def test_an_axis_that_a_variant_alone_has_needs_sizes_too(tmp_path: Path) -> None:
    text = FIXED.replace('"{embed * 2}"', '"rows"')
    add_contract(tmp_path, "mine", MINE + text)
    with pytest.raises(UsageError, match=r"no entry for encoder\.rows"):
        load_catalog([FOLDER, tmp_path])
    add_contract(tmp_path, "mine", MINE + text + "[profile.encoder]\nrows = [1, 2, 3]\n")
    shapes = _target(tmp_path, "sam2_hiera_tiny/mine@fixed/onnx-fp32").profiles["encoder"]
    assert [one.max for one in shapes["image"]] == [1, 3, 3, 7]


def test_the_static_tracker_needs_no_sizes_but_the_decoders() -> None:
    text = "sam2.1_hiera_tiny/tracker-ex@static/onnx-fp32"
    (static,) = select_targets(CATALOG, [text], OFFICIAL)
    ranges = {
        name
        for name, shapes in static.profiles.items()
        if not all(one.fixed for shape in shapes.values() for one in shape)
    }
    assert ranges == {"mask_decoder"}
    assert [one.max for one in static.profiles["memory_attention"]["frames_valid"]] == [1, 7]
