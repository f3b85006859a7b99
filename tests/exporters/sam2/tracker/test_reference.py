"""The reference: what it tries, the video that it plays, and that it is upstream's own doing."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from exporters.sam2.model import load_predictor
from exporters.sam2.tracker.cases import (
    FULL_SIZE,
    Grid,
    attention_cases,
    decoder_cases,
    read_grid,
)
from exporters.sam2.tracker.reference_memory import attend
from exporters.sam2.tracker.scene import ACTORS, HEIGHT, WIDTH, make_video
from exporters.sam2.tracker.script import from_json, make_script, plain_objects, to_json
from tests.exporters.sam2.tracker.models import ARCHITECTURES, GRID, Trackers
from tests.exporters.shrunken import ROOT, shrink

PICTURES = {name: ROOT / "catalog/pictures" / name for name in shrink("tracker")["pictures"]}


@pytest.mark.parametrize("grid", [FULL_SIZE, read_grid({"grid": GRID})])
def test_every_pair_of_sizes_is_tried(grid: Grid) -> None:
    axes = (grid.memory_frames, grid.pointers, grid.batches)
    combinations = grid.combinations()
    assert len(combinations) < len(list(itertools.product(*axes)))
    for a, b in itertools.combinations(range(3), 2):
        tried = {(one[a], one[b]) for one in combinations}
        assert tried == set(itertools.product(axes[a], axes[b]))


def test_attention_cases_stay_within_what_a_tracker_meets() -> None:
    cases = attention_cases(read_grid({"grid": GRID}), np.random.default_rng(0))
    for case in cases:
        assert len({len(bank.frames_ago) for bank in case.banks}) == 1
        assert len({len(bank.positions) for bank in case.banks}) == 1
        for bank in case.banks:
            assert 1 <= len(bank.frames_ago) <= 7 and 1 <= len(bank.positions) <= 16
            assert bank.frames_ago[0] == 0 and set(bank.frames_ago) <= set(range(7))
    odd = [case for case in cases if case.conditioning is None]
    assert len(odd) == 2
    assert any(position < 0 for case in odd for bank in case.banks for position in bank.positions)
    for case in odd:
        assert len(set(case.banks)) == len(case.banks)


def test_decoder_cases_have_every_kind() -> None:
    cases = decoder_cases(FULL_SIZE)
    labels = {row.labels for case in cases for row in case.rows}
    assert {(-1,), (1,), (1, 0), (2, 3), (2, 3, 0), (1, -1)} <= labels
    assert {row.multimask for case in cases for row in case.rows} == {True, False}
    assert any(len({row.multimask for row in case.rows}) == 2 for case in cases)
    assert any(len({row.mask for row in case.rows}) == 2 for case in cases)
    assert {len(case.rows) for case in cases} >= {1, 3}


@pytest.mark.parametrize("frames", [8, 32])
def test_the_scene_is_what_it_says(frames: int) -> None:
    def shown(actor: int, frame: int) -> float:
        x0, y0, x1, y1 = ACTORS[actor].box_at(frame / frames)
        width, height = min(x1, WIDTH) - max(x0, 0), min(y1, HEIGHT) - max(y0, 0)
        return max(0.0, width) * max(0.0, height) / ((x1 - x0) * (y1 - y0))

    video = make_video(PICTURES, frames, frames)
    assert video.frames.shape == (frames, HEIGHT, WIDTH, 3)
    assert np.array_equal(video.frames, make_video(PICTURES, frames, frames).frames)
    moves = np.abs(np.diff(video.frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    assert (moves > 0.5).all()
    first = [shown(0, frame) for frame in range(frames)]
    away = [frame for frame, share in enumerate(first) if share == 0]
    assert first[0] == 1 and away and away[-1] < frames - 1
    assert away == list(range(away[0], away[-1] + 1))
    assert shown(1, 0) == 0
    for prompt in make_script(frames):
        for x, y, _ in prompt.points:
            assert 0 <= x < WIDTH and 0 <= y < HEIGHT
        if prompt.box:
            assert prompt.box[0] >= 0 and prompt.box[2] <= WIDTH
            assert shown(1, prompt.frame) == 1
        assert prompt.frame < frames


def test_the_script_has_every_kind_of_prompt() -> None:
    short, long = make_script(8), make_script(32)
    assert from_json(to_json(long)) == long
    assert plain_objects(short) == plain_objects(long) == (1, 3)
    for script in (short, long):
        (box,) = [one for one in script if one.box]
        (correction,) = [one for one in script if one.object == box.object and one.late]
        assert 0 < box.frame < correction.frame
    fourth = [one for one in long if one.object == 4]
    frames = [(one.frame, one.late) for one in fourth]
    assert len(frames) == 5 and len(set(frames)) == 3
    assert sum(late for _, late in set(frames)) == 1


def test_the_reference_covers_what_it_is_for(trackers: Trackers) -> None:
    done = trackers.reference("sam2.1")
    reference = trackers.load_reference("sam2.1")
    document = reference.document
    assert done.metrics["pictures"] == len(document["pictures"]) == 4
    steps = document["loop"]["steps"]
    cases = sum(len(document[part]) for part in ("pictures", "decoder", "attention", "memory"))
    assert done.metrics["cases"] == cases + len(steps) > 130
    signs = {
        float(sign)
        for case in document["decoder"]
        for sign in np.sign(reference[f"decoder/{case['name']}/rule/occ_logit"]).ravel()
    }
    assert signs == {-1.0, 1.0}
    for kind in ("prompted", "tracked", "mixed"):
        rows = [
            reference[f"memory/{case['name']}/occ_logit"]
            for case in document["memory"]
            if case["name"].startswith(kind)
        ]
        assert {float(sign) for sign in np.sign(np.concatenate(rows)).ravel()} == {-1.0, 1.0}
    conditioning = {(one["object"], one["frame"]) for one in steps if one["conditioning"]}
    assert sum(number == 4 for number, _ in conditioning) == 2
    assert {number for number, _ in conditioning} == {1, 2, 3, 4}
    assert len({one["occlusion"] > 0 for one in steps if one["object"] in (1, 3)}) == 2


def test_the_single_mask_and_its_fallback_both_occur(trackers: Trackers) -> None:
    """Prompts of several points take the single mask, unless that one is not stable."""
    reference = trackers.load_reference("sam2.1")
    fallen = set()
    for case in reference.document["decoder"]:
        prefix = f"decoder/{case['name']}"
        if case["masks"]:
            continue
        several = (reference[f"{prefix}/point_labels"] != -1).sum(axis=1) > 1
        seen = reference[f"{prefix}/rule/occ_logit"][:, 0] > 0
        same = np.array(
            [
                np.array_equal(one, other)
                for one, other in zip(
                    reference[f"{prefix}/rule/pred_mask"],
                    reference[f"{prefix}/best/pred_mask"],
                    strict=True,
                )
            ]
        )
        fallen |= set(same[several & seen].tolist())
    assert fallen == {True, False}


@pytest.mark.parametrize("generation", ["sam2.1", "sam2.0"])
def test_attention_is_put_together_as_upstream_does(generation: str, trackers: Trackers) -> None:
    """On a bank that upstream's own rules lead to, to the last bit."""
    architecture = ARCHITECTURES[generation]
    with torch.no_grad():
        network: Any = load_predictor(
            architecture["config"], architecture["overrides"], trackers.weights(generation)
        )
        torch.manual_seed(0)
        side, frame, video = 8, 9, 12
        pix_feat = torch.randn(1, 256, side, side)

        def output() -> dict[str, Any]:
            features = torch.randn(1, 64, side, side)
            return {
                "maskmem_features": features,
                "maskmem_pos_enc": [network.memory_encoder.position_encoding(features)],
                "obj_ptr": torch.randn(1, 256),
            }

        conditioning, others = {1: output(), 4: output()}, {t: output() for t in (2, 5, 7, 8)}
        positions = network.image_encoder.neck.position_encoding(pix_feat)
        expected = network._prepare_memory_conditioned_features(
            frame_idx=frame,
            is_init_cond_frame=False,
            current_vision_feats=[pix_feat.flatten(2).permute(2, 0, 1)],
            current_vision_pos_embeds=[positions.flatten(2).permute(2, 0, 1)],
            feat_sizes=[(side, side)],
            output_dict={"cond_frame_outputs": conditioning, "non_cond_frame_outputs": others},
            num_frames=video,
        )
        spatial = [(0, 1), (0, 4), (4, 5), (2, 7), (1, 8)]
        ages = [(8, 1), (5, 4), (1, 8), (2, 7), (4, 5), (7, 2)]
        outputs = {**conditioning, **others}
        found = attend(
            network,
            pix_feat,
            torch.cat([outputs[t]["maskmem_features"] for _, t in spatial]),
            [ago for ago, _ in spatial],
            torch.cat([outputs[t]["obj_ptr"] for _, t in ages]),
            [age / (video - 1) for age, _ in ages],
        )
    assert torch.equal(found, expected)
