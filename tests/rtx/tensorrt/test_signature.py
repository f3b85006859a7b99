"""A network against its contract, and the shapes of its engine against the network."""

from typing import Any

import pytest

from exporters.tensorrt.network import Tensor
from exporters.tensorrt.signature import (
    Axis,
    find_axes,
    find_differences,
    find_shape_faults,
    is_fixed,
)

GOLDEN: Any = {
    "inputs": [
        {"name": "a", "dtype": "float32", "dims": ["n", 4]},
        {"name": "b", "dtype": "int64", "dims": []},
    ],
    "outputs": [{"name": "c", "dtype": "float32", "dims": ["n", 4]}],
}


def tensor(name: str, *dims: int, dtype: str = "float32") -> Tensor:
    return Tensor(name=name, dtype=dtype, dims=dims)


def differences(**changes: Any) -> list[str]:
    found: dict[str, Any] = {
        "inputs": [tensor("a", -1, 4), tensor("b", dtype="int64")],
        "outputs": [tensor("c", -1, 4)],
        "axes": {"n": Axis(min=1, max=8)},
        **changes,
    }
    return find_differences(GOLDEN, **found)


def test_a_network_that_fits_has_no_differences() -> None:
    assert differences() == []
    fixed = {"inputs": [tensor("a", 3, 4), tensor("b", dtype="int64")]}
    assert differences(**fixed, outputs=[tensor("c", 3, 4)], axes={"n": Axis(min=3, max=3)}) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": [tensor("b", dtype="int64"), tensor("a", -1, 4)]}, "inputs are b, a, and"),
        ({"outputs": []}, "its outputs are , and the contract's c"),
        ({"outputs": [tensor("c", -1, 4, dtype="float16")]}, "c is float16, and the contract's"),
        ({"outputs": [tensor("c", -1, 5)]}, "c has dims [-1, 5], and the contract's are [n, 4]"),
        ({"outputs": [tensor("c", -1)]}, "c has dims [-1]"),
        ({"outputs": [tensor("c", 2, 4)]}, "c has dims [2, 4]"),
        ({"axes": {"n": Axis(min=2, max=2)}}, "a has dims [-1, 4]"),
    ],
)
def test_a_difference_is_told_with_both_sides(changes: Any, said: str) -> None:
    assert said in "; ".join(differences(**changes))


def test_axes_come_from_shapes() -> None:
    shapes = {"a": [[1, 4], [2, 4], [8, 4]]}
    assert find_axes(GOLDEN, shapes) == {"n": Axis(min=1, max=8)}
    assert not is_fixed(shapes)
    assert is_fixed({"a": [[2, 4], [2, 4], [2, 4]]})
    assert is_fixed({})


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"a": [[1, 4], [2, 4], [8, 4]], "z": [[1], [1], [1]]}, "there is no input z"),
        ({}, "the input a has open dims, and no shapes are given for it"),
        ({"a": [[4, 4], [2, 4], [8, 4]]}, "every dim needs 1 <= min <= opt <= max"),
        ({"a": [[1, 4], [9, 4], [8, 4]]}, "every dim needs 1 <= min <= opt <= max"),
        ({"a": [[0, 4], [2, 4], [8, 4]]}, "every dim needs 1 <= min <= opt <= max"),
        ({"a": [[1], [2], [8]]}, "the input has 2 dims"),
        ({"a": [[1, 4], [2], [8, 4]]}, "the input has 2 dims"),
        ({"a": [[1, 4], [2, 4], [8, 5]]}, "the graph's dims are [-1, 4]"),
        ({"a": [[1, 5], [2, 5], [8, 5]]}, "the graph's dims are [-1, 4]"),
    ],
)
def test_shapes_that_do_not_fit_are_told(shapes: Any, said: str) -> None:
    inputs = [tensor("a", -1, 4), tensor("b", dtype="int64")]
    assert said in "; ".join(find_shape_faults(inputs, shapes))


def test_shapes_that_fit_have_no_faults() -> None:
    inputs = [tensor("a", -1, 4), tensor("b", dtype="int64")]
    assert find_shape_faults(inputs, {"a": [[1, 4], [2, 4], [8, 4]]}) == []
