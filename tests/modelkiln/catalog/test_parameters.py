"""Parameters: what a command line and a target may say, and what is answered to the rest."""

import pytest

from modelkiln.errors import UsageError
from tests.modelkiln.catalog.parameter_case import OPSET, OTHERS, PARAMETERS, SIZE


@pytest.mark.parametrize(
    ("text", "value"), [("448x448", "448x448"), ("518x322", "518x322"), ("0014x028", "14x28")]
)
def test_a_size_has_one_spelling(text: str, value: str) -> None:
    assert SIZE.parse(text) == value
    assert SIZE.spell(value) == f"px{value}"
    assert SIZE.read_token(f"px{text}") == value


def test_dims_may_use_numbers_and_the_sides_of_sizes() -> None:
    assert SIZE.numbers("518x322") == {"height": 518, "width": 322}
    assert PARAMETERS["crop"].numbers("28x42") == {"height": 28, "width": 42}
    assert OPSET.numbers(17) == {"opset": 17}
    assert OPSET.numbers("onnxsim") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("500x518", "The nearest are 504x518 or 490x518."),
        ("518x321", "The nearest are 518x322 or 518x308."),
        ("500x450", "The nearest are 504x448 or 490x448."),
        ("0x0", "The nearest is 14x14."),
        ("0x99999", "The nearest is 14x76664."),
        ("0x448", "The nearest is 14x448."),
        ("1x1", "The nearest is 14x14."),
        # One more on either side would be too large.
        ("1036x1030", "The nearest are 1036x1036 or 1036x1022."),
        ("1030x1040", "The nearest are 1036x1036 or 1022x1036."),
    ],
)
def test_a_side_that_is_no_multiple_is_told_the_nearest_sizes(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"size cannot be {text}") as caught:
        SIZE.parse(text)
    assert caught.value.next == said
    assert "multiples of 14" in caught.value.why


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("5180x518", "3276x322"),
        ("1037x1036", "1036x1036"),
        ("1036x1050", "1022x1036"),
        ("999999999x999999999", "1036x1036"),
        ("999999999x1", "76664x14"),
        ("14x999999999", "14x76664"),
    ],
)
def test_an_absurd_size_is_refused_and_one_of_its_shape_offered(text: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"size cannot be {text}") as caught:
        SIZE.parse(text)
    assert "1073296" in caught.value.why
    assert caught.value.next == f"The nearest is {near}."
    assert SIZE.parse(near) == near


@pytest.mark.parametrize(
    "text", ["", "448", "448x", "x448", "-14x14", "14.0x14", "14x14x14", "axb"]
)
def test_what_is_no_size_is_told_how_one_is_written(text: str) -> None:
    with pytest.raises(UsageError, match="size cannot be") as caught:
        SIZE.parse(text)
    assert "HEIGHTxWIDTH" in caught.value.why
    assert SIZE.read_token(f"px{text}") is None


def test_a_token_of_another_parameter_is_none_of_a_size() -> None:
    assert SIZE.read_token("448x448") is None
    assert SIZE.read_token("opset18") is None
    assert SIZE.forms == "pxHEIGHTxWIDTH"
    assert OPSET.forms == "opset17, opset18"


@pytest.mark.parametrize(
    ("name", "text", "value", "token"),
    [
        ("count", "007", 7, "calib7"),
        ("count", "4096", 4096, "calib4096"),
        # Their order means nothing, so there is one spelling; upper and lower case are one.
        ("kinds", "Conv,MatMul", "MatMul,Conv", "ops-MatMul+Conv"),
        ("kinds", "conv, matmul,CONV", "MatMul,Conv", "ops-MatMul+Conv"),
        ("kinds", "Conv", "Conv", "ops-Conv"),
        # The first alone counts.
        ("devices", "cpu,cuda", "cpu", "cpu"),
        ("devices", "CUDA,cpu,cuda", "cuda", "cuda"),
        ("sides", "1, 016384", "1,16384", "1,16384"),
        ("noise", "False", False, "noise-false"),
        ("noise", "TRUE", True, "noise-true"),
    ],
)
def test_values_of_other_kinds_have_one_spelling(
    name: str, text: str, value: object, token: str
) -> None:
    one = OTHERS[name]
    parsed = one.parse(text)
    assert parsed == value and type(parsed) is type(value)
    assert one.spell(parsed) == token
    assert one.read_token(token) == (None if name == "sides" else value)


def test_one_entry_of_a_list_that_is_wrong_is_left_out() -> None:
    for text, advice in (
        ("MatMul,Softmax", "Leave Softmax out of --kinds."),
        ("Softmax", "Leave --kinds out for the default, MatMul."),
        ("MatMul,,Conv", "Leave --kinds out for the default, MatMul."),
    ):
        with pytest.raises(UsageError) as caught:
            OTHERS["kinds"].parse(text)
        assert caught.value.next == advice


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("count", "0", "whole number from 1 to 4096"),
        ("count", "4097", "whole number from 1 to 4096"),
        ("count", "-1", "whole number"),
        ("count", "1.0", "whole number"),
        ("count", "", "whole number"),
        ("count", "\u0663", "whole number"),
        ("kinds", "", "The format allows MatMul, Conv."),
        ("kinds", "MatMul,,Conv", "The format allows MatMul, Conv."),
        ("kinds", "MatMul,Add", "The format allows MatMul, Conv."),
        ("kinds", "MatMul,Softmax", "It stays."),
        ("noise", "yes", "The format allows false, true."),
        ("sides", "1024", "HEIGHT,WIDTH"),
        ("sides", "1024,1024,3", "HEIGHT,WIDTH"),
        ("sides", "1024x1024", "HEIGHT,WIDTH"),
        ("sides", "a,b", "HEIGHT,WIDTH"),
        ("sides", "0,1024", "each from 1 to 16384"),
        ("sides", "1024,16385", "each from 1 to 16384"),
    ],
)
def test_a_wrong_value_of_another_kind_is_told(name: str, text: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"{name} cannot be") as caught:
        OTHERS[name].parse(text)
    assert why in caught.value.why
    assert f"--{name}" in caught.value.next


def test_a_flag_that_lists_is_one_value_and_any_other_may_be_several() -> None:
    assert OTHERS["count"].split("8, 16") == ["8", "16"]
    for name in ("kinds", "devices", "sides", "folder"):
        assert OTHERS[name].split("a, b") == ["a, b"]


def test_tokens_of_others_are_left_alone_and_refused_ones_are_told() -> None:
    for name, token in (("count", "calib"), ("count", "7"), ("kinds", "Conv"), ("devices", "max")):
        assert OTHERS[name].read_token(token) is None
    assert OTHERS["sides"].read_token("1024,1024") is None
    assert OTHERS["folder"].read_token("images-0123456789ab") == "0123456789ab"
    assert OTHERS["folder"].read_token("images-0123") is None
    with pytest.raises(UsageError) as caught:
        OTHERS["kinds"].read_token("ops-Conv+Softmax")
    assert caught.value.why == "It stays."
