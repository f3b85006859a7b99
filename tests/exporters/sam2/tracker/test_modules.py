"""The rules of the tracker's modules, on numbers that can be told by eye."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from exporters.sam2.tracker.modules import (
    NO_OBJECT,
    ExtendedMaskDecoder,
    MaskDecoder,
    MemoryEncoder,
    check_configuration,
    choose,
    choose_mask,
    enlarge,
    hide,
    never,
    prepare_mask,
)
from tests.exporters.sam2.tracker.models import ARCHITECTURES


def _bare(kind: type[Any], **attributes: Any) -> Any:
    """A module without upstream's parts, apart from those that are given."""
    module = kind.__new__(kind)
    torch.nn.Module.__init__(module)
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def test_never_is_zero_whatever_it_is_given() -> None:
    strange = torch.tensor([0.0, -1.0, 1e38, float("inf"), float("-inf"), float("nan")])
    assert never(strange).tolist() == [0] * 6


def test_one_of_several_is_chosen_for_each_row() -> None:
    values = torch.arange(12.0).reshape(2, 3, 2)
    assert choose(values, torch.tensor([[2], [0]])).tolist() == [[[4, 5]], [[6, 7]]]
    masks = torch.arange(24.0).reshape(2, 3, 2, 2)
    found = choose_mask(masks, torch.tensor([[1], [2]]))
    assert found.shape == (2, 1, 2, 2)
    assert torch.equal(found[:, 0], torch.stack([masks[0, 1], masks[1, 2]]))


def test_a_hidden_object_has_no_mask() -> None:
    found = hide(torch.ones(3, 1, 2, 2), torch.tensor([[0.1], [0.0], [-5.0]]))
    assert found[:, 0, 0, 0].tolist() == [1, NO_OBJECT, NO_OBJECT]


def test_masks_are_enlarged_by_four_and_brought_to_the_range_of_memory() -> None:
    assert enlarge(torch.zeros(1, 1, 2, 3)).shape == (1, 1, 8, 12)
    assert prepare_mask(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-10, 0, 10]


@pytest.mark.parametrize(
    ("inside", "doubtful", "stable"), [(16, 0, True), (15, 1, False), (0, 0, True), (0, 1, False)]
)
def test_a_mask_is_stable_where_few_cells_are_in_doubt(
    inside: int, doubtful: int, stable: bool
) -> None:
    """Upstream's delta of 0.05 and threshold of 0.98; an empty mask is stable."""
    upstream = SimpleNamespace(
        dynamic_multimask_stability_delta=0.05, dynamic_multimask_stability_thresh=0.98
    )
    mask = torch.full((64,), -1.0)
    mask[:inside] = 1.0
    mask[inside : inside + doubtful] = 0.01
    decoder = _bare(ExtendedMaskDecoder, decoder=upstream)
    assert decoder.is_stable(mask.reshape(1, 1, 8, 8)).tolist() == [[stable]]


def test_an_object_that_is_not_seen_has_the_pointer_of_none() -> None:
    decoder = _bare(
        MaskDecoder, pointer=lambda token: token + 1, no_pointer=torch.full((1, 2), -7.0)
    )
    token = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    assert decoder.point(token, torch.tensor([[0.5], [-0.5]])).tolist() == [[2, 3], [-7, -7]]


@pytest.mark.parametrize("newer", [True, False])
def test_a_memory_tells_whether_the_object_was_seen(newer: bool) -> None:
    """SAM 2.1 has an embedding for that; SAM 2.0 has none, and its input does nothing."""
    same = torch.nn.Identity()
    parts = SimpleNamespace(
        pix_feat_proj=same, mask_downsampler=lambda mask: 2 * mask, fuser=same, out_proj=same
    )
    hidden = torch.full((1, 1), 100.0) if newer else None
    encoder = _bare(MemoryEncoder, encoder=parts, hidden=hidden)
    ones = torch.ones(2, 1, 2, 2)
    found = encoder.remember(ones, ones, torch.tensor([[1.0], [-1.0]]))
    assert found[:, 0, 0, 0].tolist() == ([3, 103] if newer else [3, 3])


def test_a_configuration_that_is_not_published_is_refused() -> None:
    from exporters.sam2.model import build_model

    architecture = ARCHITECTURES["sam2.1"]
    network: Any = build_model(architecture["config"], architecture["overrides"])
    check_configuration(network)
    network.num_maskmem, network.soft_no_obj_ptr = 3, True
    with pytest.raises(ValueError, match=r": num_maskmem, soft_no_obj_ptr$"):
        check_configuration(network)
