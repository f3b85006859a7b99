"""The integer kernels that ran are those that were planned."""

import re

import pytest

from exporters.checks.kernels import find_kernel_fault


@pytest.mark.parametrize(
    ("planned", "ran", "fault"),
    [
        (3, 3, ""),
        (0, 2, ""),
        (3, 1, "of net, 2 of 3 quantized linears run in float32: onnxruntime ran 1 integer"),
        (1, 3, r"of net, 3 integer kernels ran \(3 QGemm\), not 1: something was"),
        (3, 0, r"onnxruntime ran 0 integer kernels \(none\)"),
    ],
)
def test_a_difference_is_told(planned: int, ran: int, fault: str) -> None:
    counted = {"planned": planned, "integer": ran, "names": {"QGemm": ran} if ran else {}}
    found = find_kernel_fault("net", counted)
    assert bool(found) is bool(fault)
    assert re.search(fault, found)
