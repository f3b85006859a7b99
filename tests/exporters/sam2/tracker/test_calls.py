"""What the tracker gives each graph, seen by graphs that only keep what they are given."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from exporters.media.pictures import DEVIATION, MEAN, masks_to_picture
from exporters.protocol import StageError
from exporters.sam2.tracker.calls import Classic
from exporters.sam2.tracker.memory import Recall
from exporters.sam2.tracker.track import open_tracker
from exporters.sam2.tracker.tracker import Tracker, preprocess_frame

SIZE, SIDE, LOW = 64, 4, 16
HEIGHT, WIDTH = 30, 50
PICTURE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)

Tensors = dict[str, NDArray[Any]]


class Graphs:
    """Either contract's graphs; each kind of call makes values that tell it from all others."""

    def __init__(self, *, extended: bool, occlusion: float = 1.0) -> None:
        self.extended = extended
        self.occlusion = occlusion
        self.calls: list[tuple[str, Tensors]] = []
        self.logits = np.random.default_rng(1).normal(size=(LOW, LOW)).astype(np.float32)
        self.logits[3, 3] = -1
        self.logits[2:5, 2:5][[0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 2

    def __call__(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        self.calls.append((graph, dict(inputs)))
        made: Tensors = getattr(self, graph)(inputs)
        return made

    def given(self, graph: str) -> list[Tensors]:
        return [inputs for name, inputs in self.calls if name == graph]

    def image_encoder(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        fine, middle = "high_res_feats_0", "high_res_feats_1"
        if not self.extended:
            fine, middle = "high_res_feat0", "high_res_feat1"
        first = "image_embed" if self.extended else "vision_feats"
        made = {
            "pix_feat": np.full((1, 256, SIDE, SIDE), 1, np.float32),
            first: np.full((1, 256, SIDE, SIDE), 2, np.float32),
            fine: np.full((1, 32, LOW, LOW), 3, np.float32),
            middle: np.full((1, 64, LOW // 2, LOW // 2), 4, np.float32),
        }
        if not self.extended:
            made["vision_pos_embed"] = np.full((SIDE * SIDE, 1, 256), 5, np.float32)
        return made

    def mask_decoder(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        batch = len(inputs["point_coords"])
        number = len(self.given("mask_decoder"))
        made = {
            "obj_ptr": np.full((batch, 256), number, np.float32),
            "pred_mask": np.tile(self.logits, (batch, 1, 1, 1)),
            "iou": np.full((batch, 1), 0.5, np.float32),
            "occ_logit": np.full((batch, 1), self.occlusion, np.float32),
        }
        if not self.extended:
            made["mask_for_mem"] = np.full((batch, 1, SIZE, SIZE), 7, np.float32)
        return made

    def memory_attention(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        batch = len(inputs["memory_features" if self.extended else "memory_1"])
        return {"image_embed": np.full((batch, 256, SIDE, SIDE), 6, np.float32)}

    def memory_encoder(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        batch = len(inputs["occ_logit"])
        features = np.full((batch, 64, SIDE, SIDE), len(self.given("memory_encoder")), np.float32)
        if self.extended:
            return {"memory_features": features}
        codes = 10 * (np.arange(7, dtype=np.float32) + 1)
        return {
            "maskmem_features": features,
            "maskmem_pos_enc": np.ones((batch, SIDE * SIDE, 64), np.float32),
            "temporal_code": np.tile(codes[:, None, None, None], (1, 1, 1, 64)),
        }


def _tracker(graphs: Graphs, **options: Any) -> Tracker:
    return Tracker(graphs, extended=graphs.extended, size=SIZE, **options)


def _followed(graphs: Graphs, frames: int, **options: Any) -> Tracker:
    """Object 1 by a point on frame 0, then tracked."""
    tracker = _tracker(graphs, **options)
    for frame in range(frames):
        tracker.start_frame(PICTURE)
        if frame == 0:
            tracker.prompt(1, [(10, 20, 1)])
        tracker.track()
    return tracker


def test_a_frame_is_resized_by_the_bicubic_filter() -> None:
    square = Image.fromarray(PICTURE).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    expected = (np.asarray(square, np.float64) / 255 - MEAN) / DEVIATION
    found = preprocess_frame(PICTURE, SIZE)
    assert found.shape == (1, 3, SIZE, SIZE) and found.dtype == np.float32
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), expected, atol=1e-6)


@pytest.mark.parametrize("extended", [True, False])
def test_a_prompt_is_scaled_to_the_square_and_a_box_comes_first(extended: bool) -> None:
    graphs = Graphs(extended=extended)
    tracker = _tracker(graphs)
    tracker.start_frame(PICTURE)
    tracker.prompt(4, [(25, 15, 1), (0, 0, 0)], (5, 3, 50, 30))
    (given,) = graphs.given("mask_decoder")
    expected = [[6.4, 6.4], [64, 64], [32, 32], [0, 0]]
    np.testing.assert_allclose(given["point_coords"], [expected], rtol=1e-6)
    np.testing.assert_array_equal(given["point_labels"], [[2, 3, 1, 0]])
    assert given["image_embed"].flat[0] == 2
    assert given["high_res_feats_0"].flat[0] == 3
    assert given["high_res_feats_1"].flat[0] == 4
    assert all(value.dtype == np.float32 for value in given.values())
    assert not graphs.given("memory_attention")


@pytest.mark.parametrize("extended", [True, False])
def test_a_tracked_frame_has_memory_and_a_padding_point(extended: bool) -> None:
    graphs = Graphs(extended=extended)
    _followed(graphs, 2)
    given = graphs.given("mask_decoder")[1]
    np.testing.assert_array_equal(given["point_coords"], np.zeros((1, 1, 2)))
    np.testing.assert_array_equal(given["point_labels"], [[-1]])
    assert given["image_embed"].flat[0] == 6
    if extended:
        np.testing.assert_array_equal(given["has_mask_input"], [0])


def test_the_extended_attention_is_given_ages() -> None:
    graphs = Graphs(extended=True)
    _followed(graphs, 20, num_frames=20)
    given = graphs.given("memory_attention")[-1]
    np.testing.assert_array_equal(given["frames_ago"], [[0, 6, 5, 4, 3, 2, 1]])
    assert given["frames_ago"].dtype == np.int64
    np.testing.assert_array_equal(
        given["memory_features"][0, :, 0, 0, 0], [1, 14, 15, 16, 17, 18, 19]
    )
    np.testing.assert_array_equal(given["obj_ptrs"][0, :, 0], [1, *range(19, 4, -1)])
    expected = np.array([19, *range(1, 16)], np.float32) / np.float32(15)
    np.testing.assert_array_equal(given["obj_ptr_positions"], [expected])
    assert given["pix_feat"].flat[0] == 1


def test_ages_are_divided_by_the_length_of_a_short_video() -> None:
    graphs = Graphs(extended=True)
    _followed(graphs, 5, num_frames=5)
    given = graphs.given("memory_attention")[-1]
    np.testing.assert_array_equal(given["obj_ptr_positions"], [[1, 0.25, 0.5, 0.75]])


def test_the_classic_attention_is_given_places_and_times() -> None:
    graphs = Graphs(extended=False)
    _followed(graphs, 20)
    given = graphs.given("memory_attention")[-1]
    tokens = SIDE * SIDE
    assert given["memory_0"].shape == (1, 16, 256)
    assert given["memory_1"].shape == (1, 7, 64, SIDE, SIDE)
    assert given["memory_pos_embed"].shape == (1, 7 * tokens + 4 * 16, 64)
    codes = given["memory_pos_embed"][0, : 7 * tokens : tokens, 0] - 1
    # The conditioning frame has the last code; six frames ago the sixth, one frame ago the first.
    np.testing.assert_array_equal(codes, [70, 60, 50, 40, 30, 20, 10])
    assert given["cond_frame_id_diff"].shape == ()
    assert given["cond_frame_id_diff"] == 19
    assert given["current_vision_feat"].flat[0] == 2
    assert given["current_vision_pos_embed"].flat[0] == 5


def test_the_classic_attention_is_not_run_before_its_codes_are_known() -> None:
    graphs = Graphs(extended=False)
    calls = Classic(graphs)
    frame = calls.encode(np.zeros((1, 3, SIZE, SIZE), np.float32))
    recall = Recall(
        features=np.zeros((1, 64, SIDE, SIDE), np.float32),
        frames_ago=np.zeros(1, np.int64),
        pointers=np.zeros((1, 256), np.float32),
        offsets=np.ones(1, np.int64),
    )
    with pytest.raises(ValueError, match="before the memory encoder has run"):
        calls.with_memory(frame, [recall])
    assert not graphs.given("memory_attention")


def test_a_prompted_mask_is_remembered_filled_and_a_tracked_one_as_it_is() -> None:
    graphs = Graphs(extended=True, occlusion=-3)
    tracker = _followed(graphs, 2)
    tracker.finish()
    prompted, tracked = graphs.given("memory_encoder")
    assert prompted["pred_mask"][0, 0, 3, 3] == np.float32(0.1)
    np.testing.assert_array_equal(prompted["is_prompted"], [1])
    np.testing.assert_array_equal(tracked["pred_mask"][0, 0], graphs.logits)
    np.testing.assert_array_equal(tracked["is_prompted"], [0])
    np.testing.assert_array_equal(tracked["occ_logit"], [[-3]])
    assert tracked["pix_feat"].flat[0] == 1


@pytest.mark.parametrize("extended", [True, False])
def test_the_stage_fills_holes_of_up_to_eight_pixels(extended: bool) -> None:
    graphs = Graphs(extended=extended)
    graphs.logits[:] = 2
    graphs.logits[2, 2:10] = graphs.logits[6, 2:11] = -1
    port = {"dims": [1, 3, SIZE, SIZE]}
    contract = {
        "options": {"extended": extended},
        "graphs": [{"name": "image_encoder", "inputs": [port]}],
    }
    tracker = open_tracker(contract, graphs, 3)
    tracker.start_frame(PICTURE)
    logits = tracker.prompt(1, [(3, 4, 1)]).logits
    np.testing.assert_array_equal(logits[2, 2:10], np.float32(0.1))
    np.testing.assert_array_equal(logits[6, 2:11], -1)


def test_the_classic_memory_is_a_hard_mask_where_it_was_prompted() -> None:
    graphs = Graphs(extended=False)
    _followed(graphs, 2).finish()
    prompted, tracked = graphs.given("memory_encoder")
    filled = graphs.logits.copy()
    filled[3, 3] = 0.1
    larger = masks_to_picture(filled[np.newaxis], SIZE, SIZE)
    hole = (slice(12, 16), slice(12, 16))
    assert (prompted["mask_for_mem"][0, 0][hole] == 10).all()
    away = np.ones((SIZE, SIZE), np.bool_)
    away[hole] = False
    agree = (prompted["mask_for_mem"][0, 0] > 0) == (larger[0] > 0)
    assert agree[hole].all() and agree[away].mean() > 0.5
    assert set(np.unique(prompted["mask_for_mem"])) == {-10, 10}
    assert (tracked["mask_for_mem"] == 7).all()


def test_a_correction_replaces_the_frame_and_is_no_conditioning_frame() -> None:
    graphs = Graphs(extended=True)
    graphs.logits *= 100
    tracker = _followed(graphs, 3)
    shown = tracker.prompt(1, [(3, 4, 0)])
    given = graphs.given("mask_decoder")[-1]
    np.testing.assert_array_equal(given["has_mask_input"], [1])
    assert (given["mask_input"].min(), given["mask_input"].max()) == (-32, 32)
    assert given["mask_input"][0, 0, 3, 3] == np.float32(0.1)
    assert given["image_embed"].flat[0] == 6
    assert tracker.track() == {}
    tracker.start_frame(PICTURE)
    np.testing.assert_array_equal(graphs.given("memory_encoder")[-1]["is_prompted"], [1])
    tracker.track()
    recalled = graphs.given("memory_attention")[-1]
    np.testing.assert_array_equal(recalled["frames_ago"], [[0, 2, 1]])
    np.testing.assert_array_equal(recalled["obj_ptrs"][0, 1], shown.pointer)


def test_a_refined_first_prompt_still_sees_no_memory() -> None:
    graphs = Graphs(extended=True)
    tracker = _tracker(graphs)
    tracker.start_frame(PICTURE)
    tracker.prompt(1, [(3, 4, 1)])
    tracker.prompt(1, [(3, 4, 1), (8, 9, 0)])
    given = graphs.given("mask_decoder")[1]
    assert given["image_embed"].flat[0] == 2
    np.testing.assert_array_equal(given["has_mask_input"], [1])
    tracker.finish()
    assert len(graphs.given("memory_encoder")) == 1


def test_a_known_object_that_is_prompted_before_it_is_tracked_has_two_conditioning_frames() -> None:
    graphs = Graphs(extended=True)
    tracker = _followed(graphs, 2)
    tracker.start_frame(PICTURE)
    tracker.prompt(1, [(3, 4, 1)])
    assert graphs.given("mask_decoder")[-1]["image_embed"].flat[0] == 2
    tracker.start_frame(PICTURE)
    tracker.track()
    recalled = graphs.given("memory_attention")[-1]
    np.testing.assert_array_equal(recalled["frames_ago"], [[0, 0, 2]])


@pytest.mark.parametrize("tracked", [True, False])
def test_the_classic_contract_takes_one_prompt_an_object(tracked: bool) -> None:
    graphs = Graphs(extended=False)
    tracker = _followed(graphs, 2)
    if not tracked:
        tracker.start_frame(PICTURE)
    with pytest.raises(StageError) as caught:
        tracker.prompt(1, [(3, 4, 1)])
    assert caught.value.exit_code == 2
    assert "tracker-ex" in caught.value.next
    tracker.prompt(2, [(3, 4, 1)])


def test_objects_of_a_frame_are_remembered_in_calls_of_the_batch() -> None:
    for extended, sizes in ((True, [2, 1]), (False, [1, 1, 1])):
        graphs = Graphs(extended=extended)
        tracker = _tracker(graphs, batch=2)
        tracker.start_frame(PICTURE)
        for number in (5, 3, 9):
            tracker.prompt(number, [(3, 4, 1)])
        tracker.start_frame(PICTURE)
        assert list(tracker.track()) == [5, 3, 9]
        assert [len(one["occ_logit"]) for one in graphs.given("memory_encoder")] == sizes
        assert [len(one["point_labels"]) for one in graphs.given("mask_decoder")[3:]] == sizes


def test_frames_before_the_first_object_cost_nothing() -> None:
    graphs = Graphs(extended=True)
    tracker = _tracker(graphs)
    for _ in range(3):
        tracker.start_frame(PICTURE)
        assert tracker.track() == {}
    assert not graphs.calls
    tracker.prompt(1, [(3, 4, 1)])
    assert len(graphs.given("image_encoder")) == 1
    assert tracker.frame == 2
    assert tracker.objects == {1}


def test_a_static_bank_has_no_room_for_a_second_conditioning_frame() -> None:
    graphs = Graphs(extended=True)
    port = {"name": "image_encoder", "inputs": [{"dims": [1, 3, SIZE, SIZE]}]}
    contract = {"options": {"extended": True, "static": True}, "graphs": [port]}
    tracker = open_tracker(contract, graphs, 16)
    for frame in range(9):
        tracker.start_frame(PICTURE)
        if frame in (0, 1):
            tracker.prompt(1, [(3, 4, 1)])
        if frame < 8:
            tracker.track()
    assert [len(one["frames_ago"]) for one in graphs.given("memory_attention")] == [1] * 6
    last = graphs.given("memory_attention")[-1]
    assert last["frames_ago"].tolist() == [[0, 0, 5, 4, 3, 2, 1]]
    assert last["frames_valid"].tolist() == [[1] * 7]
    assert last["pointers_valid"].tolist() == [[1] * 7 + [0] * 9]
    with pytest.raises(StageError, match="remembers 8 frames and 8 pointers"):
        tracker.track()


def test_misuse_is_told() -> None:
    tracker = _tracker(Graphs(extended=True), num_frames=1)
    with pytest.raises(ValueError, match="no frame"):
        tracker.prompt(1, [(3, 4, 1)])
    tracker.start_frame(PICTURE)
    with pytest.raises(ValueError, match="a point or a box"):
        tracker.prompt(1)
    assert tracker.objects == set()
    with pytest.raises(ValueError, match="video of 1 frames"):
        tracker.start_frame(PICTURE)
