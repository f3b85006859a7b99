"""What places and times the memory of an object."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from exporters.sam2.tracker.memory_attention import (
    EXCLUDED,
    PointerTimes,
    as_map,
    cells_of,
    exclude,
    tokens_of,
)


def _sam(*, newer: bool = True, **changed: Any) -> Any:
    torch.manual_seed(0)
    return SimpleNamespace(
        **{
            "add_tpos_enc_to_obj_ptrs": newer,
            "obj_ptr_tpos_proj": torch.nn.Linear(256, 64),
            "proj_tpos_enc_in_obj_ptrs": True,
            "use_signed_tpos_enc_to_obj_ptrs": True,
            "hidden_dim": 256,
            **changed,
        }
    )


def test_times_are_upstreams_sines() -> None:
    from sam2.modeling.sam2_utils import get_1d_sine_pe

    sam, times = _sam(), torch.tensor([[0.0, 0.2, 1.0], [-0.5, 3.0, 0.1]])
    with torch.no_grad():
        expected = sam.obj_ptr_tpos_proj(get_1d_sine_pe(times, 256))
        found = PointerTimes(sam)(times)
    assert found.shape == (2, 64, 3, 1)
    torch.testing.assert_close(found[..., 0].transpose(1, 2), expected, rtol=0, atol=1e-6)


def test_the_older_model_has_no_times() -> None:
    found = PointerTimes(_sam(newer=False))(torch.tensor([[0.5, float("nan")]]))
    assert found.shape == (1, 1, 2, 1)
    assert not found.any()


@pytest.mark.parametrize("name", ["proj_tpos_enc_in_obj_ptrs", "use_signed_tpos_enc_to_obj_ptrs"])
def test_times_of_another_kind_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="of an unknown kind"):
        PointerTimes(_sam(**{name: False}))


def test_tokens_become_a_map_row_by_row() -> None:
    found = as_map(torch.arange(8.0).reshape(1, 4, 2), 2)
    assert found.tolist() == [[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]]


def test_cells_and_channels_change_places() -> None:
    memory = torch.arange(48.0).reshape(1, 2, 4, 2, 3)
    found = cells_of(memory)
    assert found.shape == (1, 4, 2, 6)
    assert found[0, 3, 1].tolist() == memory[0, 1, 3].flatten().tolist()


def test_a_pointer_is_cut_into_tokens() -> None:
    found = tokens_of(torch.arange(16.0).reshape(1, 2, 8), 2)
    assert found.shape == (1, 2, 2, 4)
    assert found[0, :, 1, 0].tolist() == [8, 9]
    assert found[0, :, 0, 3].tolist() == [6, 7]


def test_the_weight_is_taken_from_empty_slots_alone() -> None:
    found = exclude(torch.tensor([[True, False, True]]), 2)
    assert found.tolist() == [[0, 0, EXCLUDED, EXCLUDED, 0, 0]]
    # As far as a score may be from another, and in float16 too.
    for kind in (torch.float32, torch.float16):
        weights = torch.softmax(torch.tensor([0.0, EXCLUDED + 5000], dtype=kind), dim=0)
        assert weights.tolist() == [1, 0]
        nothing = torch.softmax(torch.full((2,), EXCLUDED, dtype=kind), dim=0)
        assert nothing.tolist() == [0.5, 0.5]
