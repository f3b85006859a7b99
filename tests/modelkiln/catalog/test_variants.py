"""Variants: what a target's own text and flags make of parameters."""

import pytest

from modelkiln.catalog.variants import Flags, Variant, read_variants
from modelkiln.errors import UsageError
from tests.modelkiln.catalog.parameter_case import OPSET, SIZE
from tests.modelkiln.catalog.shared import CATALOG, names


def test_variant_names_only_what_differs_from_the_default() -> None:
    model = "sam2.1_hiera_tiny"
    assert names(f"{model}/image@opset18/onnx-fp32") == [f"{model}/image/onnx-fp32"]
    assert names(f"{model}/image/onnx-fp32", opset="20") == [f"{model}/image@opset20/onnx-fp32"]
    assert names(f"{model}/image@opset17/onnx-fp32", opset="20") == [
        f"{model}/image@opset17/onnx-fp32"
    ]


def test_a_flag_with_several_values_makes_several_targets() -> None:
    sizes = {"size": "448x448,518x518, 518x322"}
    assert names("dinov2_vits14/features/onnx-fp32", **sizes) == [
        f"dinov2_vits14/features{size}/onnx-fp32" for size in ("@448x448", "", "@518x322")
    ]
    assert len(names("dinov2_vits14/features/onnx-fp32", opset="17,18", **sizes)) == 2 * 3
    # In the order of the flags, whatever the hash seed.
    assert names("dinov2_vits14/features/onnx-fp32", size="448x448,224x224", opset="17,18") == [
        f"dinov2_vits14/features@{size}{opset}/onnx-fp32"
        for size in ("448x448", "224x224")
        for opset in (".opset17", "")
    ]


def test_attention_in_one_piece_is_for_the_contracts_that_split_it() -> None:
    """SAM's image encoder and its decoders have nothing that is split."""
    whole = [stem for stem, one in CATALOG.contracts.items() if "attention" in one.parameters]
    assert sorted(whole) == [
        "features",
        "features-reg4",
        "tracker",
        "tracker-ex",
        "tracker-ex-sam2.0",
        "tracker-legacy",
        "tracker-sam2.0",
        "treedect-features",
    ]
    for stem in whole:
        parameter = CATALOG.contracts[stem].parameters["attention"]
        assert (parameter.default, parameter.stages) == ("split", ("export",))
    model = "sam2.1_hiera_tiny"
    assert names(f"{model}/tracker-ex@whole.static/onnx-fp32") == [
        f"{model}/tracker-ex@static.whole/onnx-fp32"
    ]
    assert names(f"{model}/tracker-*/onnx-fp32", f"{model}/image/onnx-fp32", attention="whole") == [
        f"{model}/{one}/onnx-fp32" for one in ("tracker-ex@whole", "tracker-legacy@whole", "image")
    ]


def test_a_target_s_own_variant_goes_before_a_flag_with_several_values() -> None:
    assert names("dinov2_vits14/features@224x224/onnx-fp32", size="448x448,518x322") == [
        "dinov2_vits14/features@224x224/onnx-fp32"
    ]


def test_a_wrong_size_in_a_target_is_told_as_that_of_a_flag() -> None:
    with pytest.raises(UsageError, match="size cannot be 500x518") as caught:
        names("dinov2_vits14/features@500x518/onnx-fp32")
    assert caught.value.next == "The nearest are 504x518 or 490x518."


def test_of_several_contracts_each_takes_the_values_that_it_allows() -> None:
    assert names("dinov2_vits14/*/onnx-*32", size="518x518,448x448") == [
        "dinov2_vits14/features/onnx-fp32",
        "dinov2_vits14/features@448x448/onnx-fp32",
        "dinov2_vits14/treedect-features/onnx-fp32",
    ]
    assert names("dinov2_vits14/*/onnx-*32", size="224x224") == [
        "dinov2_vits14/features@224x224/onnx-fp32"
    ]
    for texts in (["dinov2_vits14/*/*"], ["dinov2_vits14/features/*"]):
        with pytest.raises(UsageError, match="size cannot be 500x500"):
            names(*texts, size="448x448,500x500")
    with pytest.raises(UsageError, match="size cannot be '224x224'") as caught:
        names("dinov2_vits14/features/*", "dinov2_vits14/treedect-features/*", size="224x224")
    assert "448x448" in caught.value.why


def test_a_target_that_gives_a_parameter_twice_is_told() -> None:
    with pytest.raises(UsageError, match="gives size two values") as caught:
        names("dinov2_vits14/features@448x448.518x322/onnx-fp32")
    assert caught.value.next == "Write two targets, or --size with commas."
    assert names("dinov2_vits14/features@448x448.448x448/onnx-fp32")


def test_a_flag_that_none_of_the_targets_knows_is_told() -> None:
    assert names("sam2.1_hiera_tiny/image/*", "dinov2_vits14/features/*", size="448x448")
    with pytest.raises(UsageError, match="None of these targets has a parameter 'size'") as caught:
        names("sam2.1_hiera_tiny/image/*", size="448x448")
    assert "opset, simplifier" in caught.value.why


def test_tokens_of_a_variant_are_sorted() -> None:
    other = next(
        one
        for one in CATALOG.contracts["image"].parameters["simplifier"].choices
        if one != CATALOG.contracts["image"].parameters["simplifier"].default
    )
    expected = ".".join(sorted(["opset20", str(other)]))
    for text in (f"opset20.{other}", f"{other}.opset20"):
        assert names(f"sam2_hiera_tiny/image@{text}/onnx-fp32") == [
            f"sam2_hiera_tiny/image@{expected}/onnx-fp32"
        ]


def test_a_wrong_flag_names_the_choices() -> None:
    with pytest.raises(UsageError, match="opset cannot be '21'") as caught:
        names("sam2_hiera_tiny/image/onnx-fp32", opset="21")
    assert "17, 18, 19, 20" in caught.value.why


def test_a_value_that_something_takes_is_no_error() -> None:
    flags = Flags({"opset": "17,99"})
    assert flags.values({"opset": OPSET}, but=()) == {"opset": [17]}
    with pytest.raises(UsageError, match="opset cannot be '99'"):
        flags.require_use([["opset"]])
    flags = Flags({"opset": "17"})
    assert flags.values({"opset": OPSET}, but={"opset"}) == {}
    flags.require_use([["opset"], []])
    with pytest.raises(UsageError, match="None of these targets") as caught:
        flags.require_use([["size"]], "a/b/c")
    assert caught.value.why == "a/b/c has size."
    assert caught.value.next == "Leave --opset out."


def test_defaults_are_left_out_of_a_variant() -> None:
    def read(text: str, **given: str) -> list[Variant]:
        parameters = {"size": SIZE, "opset": OPSET}
        return list(read_variants(parameters, text, Flags(given), "the contract", "a/b/c"))

    assert read("") == [()]
    assert read("opset18") == [()]
    assert read("px28x28.opset17") == [(("opset", 17), ("size", "28x28"))]
    assert read("opset17", size="28x28,518x518") == [
        (("opset", 17), ("size", "28x28")),
        (("opset", 17),),
    ]
    with pytest.raises(UsageError, match="the contract has no variant 'fast'") as caught:
        read("opset17.fast")
    assert caught.value.why == "It has pxHEIGHTxWIDTH, opset17, opset18."
