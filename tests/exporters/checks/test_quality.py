"""The quality of a reduced precision: figures of photographs, and the gates that judge them."""

import math
from dataclasses import replace

import numpy as np
import pytest

from exporters.checks.quality import decibels, describe_check, judge, pool
from tests.exporters.checks.made import made_masks, made_step, made_tensors

ONES = np.ones(4)


def _off(share: float, *, photograph: bool = True, exact: bool = False) -> object:
    check = made_tensors(ONES, ONES * (1 + share))
    return replace(check, photograph=photograph, exact=exact)


def test_only_photographs_are_pooled() -> None:
    checks = [_off(0.1), _off(0.01), _off(0.5, photograph=False), _off(0.9, exact=True)]
    (one,) = pool([*checks, made_masks(ONES > 0, ONES > 0)])
    assert (one.graph, one.tensor, one.cases) == ("decoder", "masks", 2)
    assert one.lowest_snr_db == pytest.approx(20, abs=1e-3)
    # Of both together: 8 by 4 x 0.1^2 + 4 x 0.01^2.
    assert one.energy.snr_db == pytest.approx(10 * math.log10(8 / 0.0404), abs=1e-3)
    assert one.relative == pytest.approx(0.1, rel=1e-4)


def test_a_gate_holds_each_output_to_its_bound() -> None:
    outputs = pool([_off(0.1)])
    gates = judge({"snr_db": 20.5, "cosine": {"masks": 0.9, "other": 2.0}}, outputs, [], "cpu")
    assert [(one.name, one.tensor, one.ok) for one in gates] == [
        ("snr_db", "masks", False),
        ("cosine", "masks", True),
    ]
    assert gates[0].say() == "the SNR of decoder masks is 20.00 dB, the gate snr_db asks for 20.5"
    (elsewhere,) = judge({"snr_db": 20.5}, outputs, [], "cuda")
    assert "decoder masks on cuda is" in elsewhere.say()
    assert not judge({}, outputs, [], "cpu")


def test_the_worst_mask_that_counts_is_judged() -> None:
    half, most, none = (np.arange(100).reshape(10, 10) < count for count in (50, 40, 0))
    checks = [made_masks(half, half), made_masks(half, most), made_masks(none, half)]
    (gate,) = judge({"mask_iou": 0.7}, [], checks, "cpu")
    assert (gate.graph, gate.tensor, gate.ok) == ("end to end", "noise/a box, mask 1", True)
    assert gate.value == pytest.approx(0.8)
    other = replace(checks[1], photograph=False)
    (gate,) = judge({"mask_iou": 0.9}, [], [checks[0], other], "cpu")
    assert gate.value == 1


def test_a_ratio_without_noise_is_null() -> None:
    assert decibels(math.inf) is None
    assert decibels(20.00004) == 20.0
    (same,) = pool([made_tensors(ONES, ONES)])
    assert same.describe()["snr_db"] is None
    (gate,) = judge({"snr_db": 30}, [same], [], "cpu")
    assert (gate.describe()["value"], gate.ok) == (None, True)


def test_a_check_is_told_with_the_gate_in_place_of_the_bound() -> None:
    tensor = describe_check(made_tensors(ONES, 1.1 * ONES), 0.98)
    assert "bound" not in tensor
    assert tensor["ok"] and tensor["snr_db"] == pytest.approx(20, abs=1e-3)
    assert not describe_check(made_tensors(ONES, np.nan * ONES), 0.98)["ok"]
    half, most = (np.arange(100).reshape(10, 10) < count for count in (50, 40))
    for iou, ok in ((0.79, True), (0.81, False)):
        mask = describe_check(made_masks(half, most), iou)
        assert (mask["bound"], mask["ok"], mask["photograph"]) == (iou, ok, True)
    step = describe_check(made_step(), 0.98)
    assert step["bound"] == 0.98 and "pointer_bound" not in step
