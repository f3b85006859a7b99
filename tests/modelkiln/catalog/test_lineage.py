"""Which target another one is made from."""

from dataclasses import replace

import pytest

from modelkiln.catalog.lineage import find_source, stages_of
from modelkiln.catalog.selection import select_targets
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import OfficialWeights
from modelkiln.errors import UsageError
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


def test_a_source_that_the_contract_does_not_come_as_is_told() -> None:
    one = target(f"{IMAGE}/rtx-fp16")
    poor = replace(one, contract=replace(one.contract, formats=("onnx-fp32", "rtx-fp16")))
    with pytest.raises(UsageError) as caught:
        find_source(CATALOG, poor)
    assert "made from onnx-fp16, which the contract image does not come as" in caught.value.why


def test_every_engine_of_the_catalog_has_a_source() -> None:
    for contract in CATALOG.contracts.values():
        for name in contract.formats:
            source = CATALOG.formats[name].made_from.partition("@")[0]
            assert not source or source in contract.formats, (contract.name, name)
