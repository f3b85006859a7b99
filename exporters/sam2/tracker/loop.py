"""The closed loop's reference: upstream's video predictor plays the script, frame by frame."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.protocol import report_progress
from exporters.sam2.tracker.scene import Video
from exporters.sam2.tracker.script import Prompt


def play(
    predictor: Any,
    video: Video,
    script: Sequence[Prompt],
    frames: int,
    tensors: dict[str, NDArray[Any]],
) -> list[dict[str, Any]]:
    """Run an unpatched `SAM2VideoPredictor` on the first frames of a video.

    Arrays that it adds for every step, loop/OBJECT/FRAME/: inside uint8 [H, W / 8], the mask at the
    size of the video, eight pixels a byte; pred_mask float32 [1, 1, S/4, S/4]; obj_ptr float32
    [1, 256].

    Returns:
        A step for every object on every frame since its first: `object`, `frame`, `occlusion` (the
        logit, positive where the object is seen) and whether the frame is `conditioning`.
    """
    _require_postprocessing(predictor)
    with tempfile.TemporaryDirectory() as folder:
        for number, file in enumerate(video.files):
            Path(folder, f"{number:05d}.jpg").write_bytes(file)
        state = predictor.init_state(folder)
    if not np.array_equal((state["video_height"], state["video_width"]), video.frames.shape[1:3]):
        raise AssertionError("upstream reads frames of another size")
    steps: list[dict[str, Any]] = []
    for frame in range(frames):
        report_progress(0.55 + 0.45 * frame / frames, f"unpatched video predictor, frame {frame}")
        here = [one for one in script if one.frame == frame]
        _prompt(predictor, state, [one for one in here if not one.late])
        for _ in predictor.propagate_in_video(
            state, start_frame_idx=frame, max_frame_num_to_track=0
        ):
            pass
        _prompt(predictor, state, [one for one in here if one.late])
        predictor.propagate_in_video_preflight(state)
        for number in sorted(state["obj_ids"]):
            outputs = state["output_dict_per_obj"][state["obj_id_to_idx"][number]]
            conditioning = frame in outputs["cond_frame_outputs"]
            kind = "cond_frame_outputs" if conditioning else "non_cond_frame_outputs"
            output = outputs[kind][frame]
            _, enlarged = predictor._get_orig_video_res_output(state, output["pred_masks"])
            prefix = f"loop/{number}/{frame}"
            tensors[f"{prefix}/inside"] = np.packbits(enlarged[0, 0].numpy() > 0, axis=-1)
            tensors[f"{prefix}/pred_mask"] = output["pred_masks"].numpy().copy()
            tensors[f"{prefix}/obj_ptr"] = output["obj_ptr"].numpy().copy()
            steps.append(
                {
                    "object": number,
                    "frame": frame,
                    "occlusion": float(output["object_score_logits"].item()),
                    "conditioning": conditioning,
                }
            )
    return steps


def _prompt(predictor: Any, state: Any, prompts: Sequence[Prompt]) -> None:
    for prompt in prompts:
        points = np.array([point[:2] for point in prompt.points], np.float32).reshape(-1, 2)
        labels = np.array([point[2] for point in prompt.points], np.int32)
        predictor.add_new_points_or_box(
            state,
            prompt.frame,
            prompt.object,
            points=points if prompt.points else None,
            labels=labels if prompt.points else None,
            box=prompt.box,
        )


def _require_postprocessing(predictor: Any) -> None:
    """Assert that the predictor is what upstream's builder makes, but for the filling of holes."""
    expected = {
        "fill_hole_area": 0,
        "binarize_mask_from_pts_for_mem_enc": True,
        "non_overlap_masks": False,
        "clear_non_cond_mem_around_input": False,
        "add_all_frames_to_correct_as_cond": False,
    }
    found = {name: getattr(predictor, name) for name in expected}
    if found != expected or not predictor.sam_mask_decoder.dynamic_multimask_via_stability:
        raise AssertionError(f"not upstream's video predictor: {found}")
