"""The tracker's rules beside those of unpatched upstream's `SAM2VideoPredictor`.

`Tracker` runs on upstream's own modules in the place of graphs, so that nothing but its rules can
differ: when memories are made and of what, which of them are recalled, and what a prompt does.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from exporters.sam2.tracker.calls import Mask
from exporters.sam2.tracker.tracker import Tracker
from exporters.weights.random import draw_weights
from tests.exporters.shrunken import ARCHITECTURE, SIZE

pytestmark = pytest.mark.filterwarnings("ignore")

Tensors = dict[str, NDArray[Any]]

CLOSE = 5e-5
HEIGHT, WIDTH = 90, 120

SELDOM = 0.71


@pytest.fixture(scope="module")
def predictor(video: Callable[[int], Path]) -> Any:
    """A shrunken `SAM2VideoPredictor` whose random weights see the objects throughout."""
    from sam2.build_sam import build_sam2_video_predictor

    overrides = [*ARCHITECTURE["overrides"], "model.memory_attention.num_layers=2"]
    network: Any = build_sam2_video_predictor(
        ARCHITECTURE["config"], None, device="cpu", hydra_overrides_extra=overrides
    )
    network.fill_hole_area = 0
    drawn = draw_weights(network, 0)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in drawn.items()})
    scores = [float(one["object_score_logits"]) for one in _theirs(network, video(24), 24).values()]
    shift = float(np.sort(scores)[:3].mean())
    _occlusion_bias(network).sub_(shift)
    return network


def _occlusion_bias(network: Any) -> Any:
    return network.sam_mask_decoder.pred_obj_score_head.layers[2].bias.data


@pytest.fixture(scope="module")
def expected(predictor: Any, video: Callable[[int], Path]) -> Callable[[int], Any]:
    """What the predictor makes of so many frames."""
    return functools.cache(lambda frames: _theirs(predictor, video(frames), frames))


class Upstream:
    """`run` of the contract tracker-ex, made of the predictor's own modules."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.shapes: list[tuple[int, ...]] = []

    @torch.inference_mode()
    def __call__(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        given = {name: torch.from_numpy(np.array(value)) for name, value in inputs.items()}
        outputs: dict[str, Any] = getattr(self, graph)(**given)
        return {name: value.numpy() for name, value in outputs.items()}

    def image_encoder(self, image: Any) -> dict[str, Any]:
        fine, middle, coarse = self.network.forward_image(image)["backbone_fpn"]
        return {
            "pix_feat": coarse,
            "high_res_feats_0": fine,
            "high_res_feats_1": middle,
            "image_embed": coarse + self.network.no_mem_embed.reshape(1, -1, 1, 1),
        }

    def mask_decoder(
        self,
        point_coords: Any,
        point_labels: Any,
        image_embed: Any,
        high_res_feats_0: Any,
        high_res_feats_1: Any,
        mask_input: Any,
        has_mask_input: Any,
    ) -> dict[str, Any]:
        batch = len(point_coords)
        assert bool((has_mask_input == has_mask_input[0]).all())
        _, _, ious, low, _, pointer, occlusion = self.network._forward_sam_heads(
            backbone_features=image_embed,
            point_inputs={"point_coords": point_coords, "point_labels": point_labels.int()},
            mask_inputs=mask_input if has_mask_input[0] > 0 else None,
            high_res_features=[
                one.expand(batch, -1, -1, -1) for one in (high_res_feats_0, high_res_feats_1)
            ],
            multimask_output=point_coords.shape[1] <= 1,
        )
        return {
            "obj_ptr": pointer,
            "pred_mask": low,
            "iou": ious.max(dim=1, keepdim=True).values,
            "occ_logit": occlusion,
        }

    def memory_attention(
        self,
        pix_feat: Any,
        memory_features: Any,
        frames_ago: Any,
        obj_ptrs: Any,
        obj_ptr_positions: Any,
    ) -> dict[str, Any]:
        from sam2.modeling.sam2_utils import get_1d_sine_pe

        network = self.network
        batch, frames, width, height, side = memory_features.shape
        self.shapes.append((batch, frames, obj_ptrs.shape[1]))
        where = network.memory_encoder.position_encoding(memory_features[0, :1])
        where = where.flatten(2).permute(2, 0, 1)
        when = network.maskmem_tpos_enc[:, 0]
        rows, places = [], []
        for frame in range(frames):
            rows.append(memory_features[:, frame].flatten(2).permute(2, 0, 1))
            code = torch.where(frames_ago[:, frame] == 0, 7, frames_ago[:, frame]) - 1
            places.append(where + when[code, 0])
        for pointer, position in zip(obj_ptrs.unbind(1), obj_ptr_positions.unbind(1), strict=True):
            rows.append(pointer.reshape(batch, 4, width).permute(1, 0, 2))
            age = network.obj_ptr_tpos_proj(get_1d_sine_pe(position, dim=network.hidden_dim))
            places.append(age.expand(4, batch, -1))
        seen = pix_feat.flatten(2).permute(2, 0, 1).expand(-1, batch, -1)
        position = network.image_encoder.neck.position_encoding(pix_feat).flatten(2)
        made = network.memory_attention(
            curr=[seen],
            curr_pos=[position.permute(2, 0, 1).expand(-1, batch, -1)],
            memory=torch.cat(rows),
            memory_pos=torch.cat(places),
            num_obj_ptr_tokens=4 * obj_ptrs.shape[1],
        )
        return {"image_embed": made.permute(1, 2, 0).reshape(batch, -1, height, side)}

    def memory_encoder(
        self, pred_mask: Any, is_prompted: Any, pix_feat: Any, occ_logit: Any
    ) -> dict[str, Any]:
        larger = torch.nn.functional.interpolate(pred_mask, (SIZE, SIZE), mode="bilinear")
        made = [
            self.network._encode_new_memory(
                [pix_feat.flatten(2).permute(2, 0, 1)],
                [pix_feat.shape[2:]],
                larger[row : row + 1],
                occ_logit[row : row + 1],
                is_mask_from_pts=bool(is_prompted[row] > 0),
            )[0]
            for row in range(len(pred_mask))
        ]
        return {"memory_features": torch.cat(made)}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Folders of so many JPEGs: a bright and a dark square that cross over noise."""

    @functools.cache
    def make(frames: int) -> Path:
        folder = tmp_path_factory.mktemp("video")
        generator = np.random.default_rng(0)
        ground = generator.integers(60, 190, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        for frame in range(frames):
            pixels = ground.copy()
            pixels[10:40, 4 * frame : 4 * frame + 30] = (250, 220, 40)
            pixels[45:80, 85 - 3 * frame :][:, :25] = (10, 30, 120)
            Image.fromarray(pixels).save(folder / f"{frame:05d}.jpg", quality=95, subsampling=0)
        return folder

    return make


Prompt = tuple[int, int, Mapping[str, Any]]

SCRIPT: Sequence[Prompt] = (
    (0, 1, {"points": [(15, 25, 1)]}),
    (3, 2, {"box": (76, 45, 101, 80)}),
    (3, 2, {"points": [(88, 60, 1)], "box": (76, 45, 101, 80)}),
    (9, 1, {"points": [(50, 25, 1), (90, 70, 0)]}),
    (9, 1, {"points": [(50, 25, 1), (90, 70, 0), (55, 30, 1)]}),
    (10, 2, {"points": [(60, 60, 1)]}),
)
"""Frame, object, prompt; the first on a frame where the object is unknown conditions it."""


def _follow(
    frames: int,
    start: Callable[[int], None],
    prompt: Callable[[int, int, Mapping[str, Any]], None],
    track: Callable[[int], None],
) -> None:
    """Goes through the script: prompts of new objects, then tracking, then corrections."""
    known: set[int] = set()
    for frame in range(frames):
        start(frame)
        asked = [(number, given) for when, number, given in SCRIPT if when == frame]
        new = [one for one in asked if one[0] not in known]
        for number, given in new:
            prompt(frame, number, given)
            known.add(number)
        track(frame)
        for number, given in asked[len(new) :]:
            prompt(frame, number, given)


def _ours(
    run: Any, folder: Path, frames: int, *, batch: int = 1, live: bool = False, fill: int = 0
) -> dict[tuple[int, int], Mask]:
    tracker = Tracker(
        run,
        extended=True,
        size=SIZE,
        num_frames=None if live else frames,
        fill_hole_area=fill,
        batch=batch,
    )
    masks: dict[tuple[int, int], Mask] = {}

    def start(frame: int) -> None:
        tracker.start_frame(np.asarray(Image.open(folder / f"{frame:05d}.jpg")))

    def prompt(frame: int, number: int, given: Mapping[str, Any]) -> None:
        masks[frame, number] = tracker.prompt(number, **given)

    def track(frame: int) -> None:
        masks.update({(frame, number): mask for number, mask in tracker.track().items()})

    _follow(frames, start, prompt, track)
    return masks


def _theirs(network: Any, folder: Path, frames: int) -> dict[tuple[int, int], Mapping[str, Any]]:
    """The same by `SAM2VideoPredictor`, which propagates one frame at a time."""
    state = network.init_state(str(folder))

    def prompt(frame: int, number: int, given: Mapping[str, Any]) -> None:
        points = np.array(given.get("points", ()), np.float32).reshape(-1, 3)
        pairs = {"points": points[:, :2], "labels": points[:, 2].astype(np.int32)}
        network.add_new_points_or_box(
            state, frame, number, box=given.get("box"), **(pairs if len(points) else {})
        )

    def track(frame: int) -> None:
        list(network.propagate_in_video(state, frame, 0))

    _follow(frames, lambda _: None, prompt, track)
    network.propagate_in_video_preflight(state)
    return {
        (frame, state["obj_idx_to_id"][index]): out
        for index, kinds in state["output_dict_per_obj"].items()
        for kind in kinds.values()
        for frame, out in kind.items()
    }


def _differences(
    ours: Mapping[tuple[int, int], Mask], theirs: Mapping[tuple[int, int], Mapping[str, Any]]
) -> float:
    """The largest difference of logits and pointers, in shares of their scale."""
    assert set(ours) == set(theirs)
    worst = 0.0
    for key, mask in ours.items():
        for mine, other in (
            (mask.logits, theirs[key]["pred_masks"][0, 0]),
            (mask.pointer, theirs[key]["obj_ptr"][0]),
            (np.float32(mask.occlusion), theirs[key]["object_score_logits"][0, 0]),
        ):
            expected = other.numpy()
            scale = max(1.0, float(np.abs(expected).max()))
            worst = max(worst, float(np.abs(mine - expected).max()) / scale)
    return worst


# A long video that is no live stream is below, where objects share a call.
@pytest.mark.parametrize(("frames", "live"), [(24, True), (12, False)])
def test_the_tracker_does_what_the_video_predictor_does(
    predictor: Any,
    video: Callable[[int], Path],
    expected: Callable[[int], Any],
    frames: int,
    live: bool,
) -> None:
    ours = _ours(Upstream(predictor), video(frames), frames, live=live)
    assert len(ours) == 2 * frames - 3
    assert all(mask.visible for mask in ours.values())
    assert _differences(ours, expected(frames)) < CLOSE


def test_so_it_does_where_objects_come_and_go(predictor: Any, video: Callable[[int], Path]) -> None:
    bias = _occlusion_bias(predictor)
    usual = bias.clone()
    bias -= SELDOM
    try:
        theirs = _theirs(predictor, video(24), 24)
        ours = _ours(Upstream(predictor), video(24), 24)
    finally:
        bias.copy_(usual)
    visible = [mask.visible for mask in ours.values()]
    assert 5 < sum(visible) < len(visible) - 5
    assert _differences(ours, theirs) < CLOSE


def test_objects_share_a_call_where_their_banks_are_equally_large(
    predictor: Any, video: Callable[[int], Path], expected: Callable[[int], Any]
) -> None:
    upstream = Upstream(predictor)
    ours = _ours(upstream, video(24), 24, batch=3)
    assert _differences(ours, expected(24)) < CLOSE
    assert upstream.shapes[0] == (1, 1, 1)
    assert {(2, 7, 16), (1, 7, 16)} <= set(upstream.shapes)


def test_a_short_video_is_not_a_live_stream(
    predictor: Any, video: Callable[[int], Path], expected: Callable[[int], Any]
) -> None:
    ours = _ours(Upstream(predictor), video(12), 12, live=True)
    assert _differences(ours, expected(12)) > 2 * CLOSE


# Each in as few frames as it takes to show: sixteen pointers are there only in a long video.
@pytest.mark.parametrize(
    ("name", "value", "frames"),
    [
        ("memory.RECENT", 5, 12),
        ("memory.POINTERS", 15, 24),
        ("tracker.round_to_bfloat16", lambda features: features, 12),
        ("tracker._LARGEST_LOGIT", 1.0, 12),
        ("tracker.PADDING", 0, 12),
        ("tracker.fill_holes", lambda logits, _: logits + np.float32(0.5), 12),
    ],
)
def test_a_broken_rule_shows(
    predictor: Any,
    video: Callable[[int], Path],
    expected: Callable[[int], Any],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: Any,
    frames: int,
) -> None:
    monkeypatch.setattr(f"exporters.sam2.tracker.{name}", value)
    ours = _ours(Upstream(predictor), video(frames), frames)
    assert _differences(ours, expected(frames)) > 2 * CLOSE
