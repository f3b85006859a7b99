"""What the static graphs are given: one object a call, and its memory in slots."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.protocol import BAD_INPUT, StageError
from exporters.sam2.tracker.slots import fill_slots, is_static, serve_slots

SIDE = 2
Tensors = dict[str, NDArray[Any]]


def _bank(frames: int, pointers: int, batch: int = 1) -> Tensors:
    def count(*shape: int) -> NDArray[np.float32]:
        return np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)

    return {
        "pix_feat": count(1, 8, SIDE, SIDE),
        "memory_features": count(batch, frames, 4, SIDE, SIDE),
        "frames_ago": count(batch, frames).astype(np.int64),
        "obj_ptrs": count(batch, pointers, 8),
        "obj_ptr_positions": count(batch, pointers),
    }


@pytest.mark.parametrize("filler", [0.0, 1e9, float("nan")])
@pytest.mark.parametrize(("frames", "pointers"), [(0, 0), (2, 3), (7, 16)])
def test_a_bank_fills_the_first_slots(frames: int, pointers: int, filler: float) -> None:
    bank = _bank(frames, pointers)
    found = fill_slots(bank, filler)
    assert found["pix_feat"] is bank["pix_feat"]
    for name, slots, filled in (
        ("memory_features", 7, frames),
        ("frames_ago", 7, frames),
        ("obj_ptrs", 16, pointers),
        ("obj_ptr_positions", 16, pointers),
    ):
        assert found[name].shape == (1, slots, *bank[name].shape[2:])
        assert found[name].dtype == bank[name].dtype
        np.testing.assert_array_equal(found[name][:, :filled], bank[name])
        rest = np.iinfo(np.int64).max if name == "frames_ago" and filler != 0 else filler
        np.testing.assert_array_equal(found[name][:, filled:], rest)
    assert found["frames_valid"].tolist() == [[1.0] * frames + [0.0] * (7 - frames)]
    assert found["pointers_valid"].tolist() == [[1.0] * pointers + [0.0] * (16 - pointers)]
    assert {found[f"{kind}_valid"].dtype for kind in ("frames", "pointers")} == {np.dtype("f4")}


@pytest.mark.parametrize(("frames", "pointers"), [(8, 16), (7, 17)])
def test_more_than_the_slots_take_is_told(frames: int, pointers: int) -> None:
    with pytest.raises(StageError) as caught:
        fill_slots(_bank(frames, pointers))
    assert caught.value.exit_code == BAD_INPUT
    assert caught.value.what == f"An object remembers {frames} frames and {pointers} pointers."
    assert "room for 7 and 16" in caught.value.why


def test_objects_are_taken_one_by_one() -> None:
    calls: list[tuple[str, Tensors]] = []

    def run(graph: str, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        calls.append((graph, dict(inputs)))
        return {"made": np.full((1, 2), len(calls))}

    serve = serve_slots(run, filler=5)
    bank = _bank(2, 3, batch=3)
    assert serve("memory_attention", bank)["made"].tolist() == [[1, 1], [2, 2], [3, 3]]
    for row, (graph, given) in enumerate(calls):
        assert graph == "memory_attention"
        np.testing.assert_array_equal(given["pix_feat"], bank["pix_feat"])
        np.testing.assert_array_equal(given["obj_ptrs"][0, :3], bank["obj_ptrs"][row])
        assert (given["obj_ptrs"][0, 3:] == 5).all()
    calls.clear()
    masks: Tensors = {
        "pred_mask": np.arange(2.0).reshape(2, 1, 1, 1),
        "is_prompted": np.array([0.0, 1.0]),
        "pix_feat": bank["pix_feat"],
        "occ_logit": np.array([[3.0], [-4.0]]),
    }
    assert len(serve("memory_encoder", masks)["made"]) == 2
    assert [given["occ_logit"].tolist() for _, given in calls] == [[[3.0]], [[-4.0]]]
    assert all(given["pix_feat"] is bank["pix_feat"] for _, given in calls)


def test_other_graphs_are_called_as_they_are() -> None:
    calls: list[tuple[str, Any]] = []

    def run(graph: str, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        calls.append((graph, inputs))
        return {}

    given = {"point_coords": np.zeros((3, 2, 2)), "frames": np.zeros(1)}
    for graph in ("image_encoder", "mask_decoder"):
        assert serve_slots(run)(graph, given) == {}
    assert [(graph, inputs is given) for graph, inputs in calls] == [
        ("image_encoder", True),
        ("mask_decoder", True),
    ]


def test_the_contract_says_whether_its_bank_is_static() -> None:
    assert is_static({"options": {"extended": True, "static": True}})
    assert not is_static({"options": {"extended": True}})
