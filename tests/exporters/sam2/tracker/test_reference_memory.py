"""Memory attention, put together as upstream does."""

from typing import Any

import pytest
import torch

from exporters.sam2.model import load_predictor
from exporters.sam2.tracker.reference_memory import attend
from tests.exporters.sam2.tracker.models import ARCHITECTURES, Trackers


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
