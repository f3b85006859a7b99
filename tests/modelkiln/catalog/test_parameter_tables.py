"""How the catalog writes parameters: each table its kind, and a wrong one told with its file."""

import pytest

from modelkiln.catalog.parameter_tables import read_parameters
from modelkiln.catalog.parameters import (
    ListParameter,
    NumberParameter,
    Parameter,
    SidesParameter,
    SizeParameter,
)
from modelkiln.errors import UsageError
from tests.modelkiln.catalog.parameter_case import (
    FILE,
    MORE,
    OPSET,
    OTHERS,
    PARAMETERS,
    SIZE,
    TABLES,
)


def test_a_table_with_choices_is_a_closed_set_and_one_without_is_a_size() -> None:
    assert type(OPSET) is type(PARAMETERS["crop"]) is Parameter
    assert type(SIZE) is SizeParameter
    assert (SIZE.help, OPSET.help) == ("in pixels", "")


@pytest.mark.parametrize(
    "changed",
    [
        {"token": "none"},
        {"default": None},
        {"default": "500x500"},
        {"multiple": "14"},
        {"stages": 1},
    ],
)
def test_a_wrong_table_is_told_with_its_file(changed: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"features\.toml"):
        read_parameters({"size": {**TABLES["size"], **changed}}, FILE)


def test_each_kind_has_its_class_and_its_form() -> None:
    kinds = {"count": NumberParameter, "kinds": ListParameter, "sides": SidesParameter}
    assert {name: type(OTHERS[name]) for name in kinds} == kinds
    forms = {name: one.forms for name, one in OTHERS.items()}
    assert forms == {
        "count": "calibNUMBER",
        "kinds": "ops-MatMul+Conv",
        "devices": "cuda, cpu",
        "noise": "noise-false, noise-true",
        "sides": "",
        "folder": "images-DIGEST",
    }
    assert OTHERS["noise"].numbers(True) == {}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("count", {"default": 0}),
        ("count", {"most": "9"}),
        ("kinds", {"default": "Add"}),
        ("kinds", {"list_of": "all"}),
        ("kinds", {"refused": ["softmax"]}),
        ("kinds", {"refused": {"softmax": 1}}),
        ("noise", {"default": "maybe"}),
        ("folder", {"kind": "files"}),
    ],
)
def test_a_wrong_table_of_another_kind_is_told_with_its_file(
    name: str, changed: dict[str, object]
) -> None:
    with pytest.raises(UsageError, match=r"features\.toml"):
        read_parameters({name: {**MORE[name], **changed}}, FILE)
