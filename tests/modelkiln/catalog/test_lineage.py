"""Which target another one is made from."""

from pathlib import Path

import pytest

from modelkiln.catalog.lineage import find_source, stages_of
from modelkiln.catalog.selection import select_targets
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import OfficialWeights
from tests.modelkiln.catalog.shared import CATALOG

IMAGE = "sam2.1_hiera_tiny/image"


def target(name: str) -> Target:
    (one,) = select_targets(CATALOG, [name], OfficialWeights())
    return one


@pytest.mark.parametrize(
    ("form", "source"),
    [
        ("onnx-fp32", None),
        ("onnx-int8@explicit", "onnx-fp32"),
        ("rtx-fp32", "onnx-fp32"),
        ("rtx-fp16@sm89", "onnx-fp16"),
        ("rtx-int8", "onnx-int8@explicit.fp16"),
        ("rtx-fp8", "onnx-fp8@fp16"),
    ],
)
def test_what_a_target_is_made_from(form: str, source: str | None) -> None:
    found = find_source(CATALOG, target(f"{IMAGE}@opset19/{form}"))
    assert (found and found.name) == (source and f"{IMAGE}@opset19/{source}")


def test_stages_are_those_of_the_source_and_then_its_own() -> None:
    assert stages_of(CATALOG, target(f"{IMAGE}/onnx-fp32")) == ("ingest", "export", "convert")
    graphs = ("ingest", "export", "convert", "calibrate", "quantize")
    assert stages_of(CATALOG, target(f"{IMAGE}/onnx-int8")) == graphs
    assert stages_of(CATALOG, target(f"{IMAGE}/rtx-int8")) == (*graphs, "engine")


def test_the_source_s_parameters_are_those_of_what_is_made_from_it() -> None:
    tracker = "sam2.1_hiera_tiny/tracker"
    graphs = "graphs-image_encoder+memory_attention"
    one = target(f"{tracker}/rtx-int8@calib8.{graphs}.profile-batch-1-1-4.sm89")
    source = find_source(CATALOG, one)
    assert source is not None
    assert source.name == f"{tracker}@whole/onnx-int8@calib8.explicit.fp16.{graphs}"
    assert source.quantized == ["image_encoder", "memory_attention"]
    # What the source's variant fixes cannot be asked for.
    assert {"layout", "dtype"}.isdisjoint(one.format.parameters)
    assert {"calib_size", "image_dir", "gpu", "profile"} <= one.format.parameters.keys()
    assert one.format.fixed == {"layout": "explicit", "dtype": "fp16"}


def test_attention_is_whole_where_a_contract_splits_it() -> None:
    for contract, whole in (
        ("tracker", "tracker@whole"),
        ("tracker-ex@static", "tracker-ex@static.whole"),
    ):
        source = find_source(CATALOG, target(f"sam2.1_hiera_tiny/{contract}/rtx-fp16"))
        assert source is not None
        assert source.name == f"sam2.1_hiera_tiny/{whole}/onnx-fp16"
    image = find_source(CATALOG, target(f"{IMAGE}/rtx-fp16"))
    assert image is not None
    assert image.name == f"{IMAGE}/onnx-fp16"


def test_defaults_of_a_model_are_those_of_the_source() -> None:
    for name, model in CATALOG.models.items():
        contract = CATALOG.contract("image", model) or CATALOG.contract("features", model)
        assert contract is not None
        for form in ("rtx-fp16", "rtx-int8", "rtx-fp8"):
            made = CATALOG.format_for(form, model, contract)
            source = CATALOG.format_for(made.source, model, contract)
            shared = made.parameters.keys() & source.parameters.keys()
            assert {"calib_size", "graphs_to_quantize"} <= shared
            for one in shared:
                assert made.parameters[one] == source.parameters[one], (name, form, one)


def test_pictures_of_one_s_own_calibrate_what_engines_are_made_from(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"%d" % number)
    flags = {"image_dir": str(tmp_path), "image_file_extension": "png", "calib_size": "2"}
    (one,) = select_targets(CATALOG, [f"{IMAGE}/rtx-int8"], OfficialWeights(), flags)
    source = find_source(CATALOG, one)
    assert source is not None
    assert source.pictures == one.pictures is not None
    assert source.format_parameters["image_dir"] == str(tmp_path)


def test_every_engine_of_the_catalog_has_a_source() -> None:
    for contract in CATALOG.contracts.values():
        for name in contract.formats:
            source = CATALOG.formats[name].made_from.partition("@")[0]
            assert not source or source in contract.formats, (contract.name, name)
