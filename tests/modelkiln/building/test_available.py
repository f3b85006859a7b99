"""Targets that are known by name alone."""

from dataclasses import replace

import pytest

from modelkiln.building.available import find_reasons, note_left_out, split_available
from modelkiln.catalog.selection import select_targets
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import OfficialWeights
from modelkiln.errors import EnvironmentFailure
from tests.modelkiln.catalog.shared import CATALOG

IMAGE = "sam2.1_hiera_tiny/image"


def targets(*texts: str) -> list[Target]:
    return select_targets(CATALOG, texts, OfficialWeights())


def test_what_a_glob_matched_is_left_out_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    able, left_out = split_available(targets(f"{IMAGE}/rtx-*", f"{IMAGE}/trt-*"))
    assert {one.format.name for one in able} == {"rtx-fp16", "rtx-fp32", "rtx-int8", "rtx-fp8"}
    assert {one.format.name for one in left_out} == {"trt-fp16", "trt-fp32", "trt-int8", "trt-fp8"}
    note_left_out(left_out)
    said = capsys.readouterr().err
    assert said.count("skipped") == 1
    assert "skipped 4 targets of trt-fp16, trt-fp32, trt-int8, trt-fp8: Full TensorRT" in said
    assert find_reasons(left_out) == {one.name: one.format.unavailable[0] for one in left_out}
    note_left_out(left_out[:1])
    assert "skipped 1 target of trt-fp16: " in capsys.readouterr().err


@pytest.mark.parametrize("texts", [(f"{IMAGE}/trt-fp16", f"{IMAGE}/rtx-*"), (f"{IMAGE}/trt-*",)])
def test_what_was_named_or_is_all_there_is_is_an_error(texts: tuple[str, ...]) -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        split_available(targets(*texts))
    assert caught.value.exit_code == 4
    assert caught.value.what == f"{IMAGE}/trt-fp16 cannot be built here."
    assert "rtx-fp16" in caught.value.next
    assert "trtexec" in caught.value.next


def test_a_name_that_a_glob_matched_too_is_still_named() -> None:
    (one,) = targets(f"{IMAGE}/trt-fp16")
    with pytest.raises(EnvironmentFailure):
        split_available([*targets(f"{IMAGE}/rtx-fp16"), one])
    able, left_out = split_available([*targets(f"{IMAGE}/rtx-fp16"), replace(one, by_name=False)])
    assert len(able) == len(left_out) == 1
