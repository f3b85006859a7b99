"""The tracker contracts' part of `reference`: upstream's own parts, and its video predictor."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from exporters.media.pictures import load_picture, normalize
from exporters.protocol import report_progress
from exporters.sam2.model import load_predictor, require_eval
from exporters.sam2.tracker.cases import (
    PADDING,
    DecoderCase,
    decoder_cases,
    read_grid,
)
from exporters.sam2.tracker.loop import play
from exporters.sam2.tracker.reference_memory import (
    as_array,
    attend_all,
    encode_memories,
    prepare_for_memory,
)
from exporters.sam2.tracker.scene import make_video
from exporters.sam2.tracker.script import make_script, to_json

FEATURES: Final = ("pix_feat", "high_res_feats_0", "high_res_feats_1", "image_embed")
DECODED: Final = ("obj_ptr", "pred_mask", "iou", "occ_logit")
STEPS: Final = 8
STRIDE: Final = 0.3
MARGIN: Final = 1.0

Arrays = dict[str, NDArray[Any]]


def compute(
    params: Mapping[str, Any], weights: Path, pictures: Mapping[str, Path], seed: int
) -> tuple[dict[str, Any], Arrays]:
    """Compute every graph by itself, for all contracts of the tracker at once, and a video.

    Parameters: `config`, `overrides`, and for tests `grid` (see `cases.Grid`).

    Arrays, float32 unless said; B objects, h = S/16:

    - positions [h * h, 1, 256], memory_positions [h * h, 64], temporal_code [7, 1, 1, 64];
    - PICTURE/picture uint8 [S, S, 3]; PICTURE/<feature>, as the extended image encoder's outputs;
    - decoder/CASE/{point_coords, point_labels, image_embed, mask_input, has_mask_input}, and what
      comes of them by Meta's rule: decoder/CASE/rule/{obj_ptr, pred_mask, iou, occ_logit}; without
      masks also as the best of three whatever the prompt: decoder/CASE/best/..., with these and
      mask_for_mem [B, 1, S, S];
    - features [B, 7, 64, h, h] and pointers [B, 16, 256], which attention cases take the first of;
      attention/CASE/image_embed;
    - memory/CASE/{pred_mask, mask_for_mem, is_prompted, occ_logit}, and of them memory_features,
      and legacy where a second sigmoid comes before it;
    - what `loop.play` says.
    """
    network: Any = load_predictor(params["config"], params["overrides"], weights)
    size = int(network.image_size)
    grid = read_grid(params)
    tensors: Arrays = {}
    squares = {name: _square(path, size) for name, path in pictures.items()}
    squares["noise"] = _generator(seed, "noise").integers(0, 256, (size, size, 3), dtype=np.uint8)
    for name, square in squares.items():
        report_progress(0.1, f"running the unpatched image encoder on {name}")
        _encode(network, name, square, tensors)
    names = list(squares)
    report_progress(0.2, "running the unpatched mask decoder")
    decoder = [
        _decode(network, case, names, tensors, _generator(seed, f"decoder {case.name}"))
        for case in decoder_cases(grid)
    ]
    memory = encode_memories(network, grid, names, tensors, _generator(seed, "memory"))
    attention = attend_all(network, grid, names, tensors, _generator(seed, "attention"))
    video = make_video(pictures, grid.video_frames, grid.loop_frames)
    script = make_script(grid.loop_frames)
    tensors["video"] = video.frames
    loop = play(network, video, script, grid.loop_frames, tensors)
    require_eval(network)
    cases = len(squares) + len(decoder) + len(memory) + len(attention) + len(loop)
    document = {
        "size": size,
        "counts": {"pictures": len(squares), "cases": cases},
        "pictures": names,
        "decoder": decoder,
        "attention": attention,
        "memory": memory,
        "loop": {
            "frames": grid.loop_frames,
            "video_frames": grid.video_frames,
            "script": to_json(script),
            "steps": loop,
        },
    }
    return document, tensors


def _encode(network: Any, name: str, square: NDArray[np.uint8], tensors: Arrays) -> None:
    """Compute the features of a picture; with the first, upstream's tables of positions."""
    backbone = network.forward_image(torch.from_numpy(normalize(square)))
    fine, middle, coarse = backbone["backbone_fpn"]
    embedded = coarse + network.no_mem_embed.reshape(1, -1, 1, 1)
    tensors[f"{name}/picture"] = square
    for feature, value in zip(FEATURES, (coarse, fine, middle, embedded), strict=True):
        tensors[f"{name}/{feature}"] = as_array(value)
    if "positions" not in tensors:
        flat = backbone["vision_pos_enc"][-1].flatten(2).permute(2, 0, 1)
        tensors["positions"] = as_array(flat)
        tensors["temporal_code"] = as_array(network.maskmem_tpos_enc)


def _decode(
    network: Any,
    case: DecoderCase,
    pictures: Sequence[str],
    tensors: Arrays,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Run a case row by row, each object on another picture's coarse features.

    A network may find an object in all photographs or in none, so half of the objects are made to
    seem there and half not: their features are moved until the occlusion logit has that sign.
    """
    size, count = int(network.image_size), len(case.rows)
    labels = np.array([row.labels for row in case.rows], np.float32)
    coords = generator.random((*labels.shape, 2), dtype=np.float32) * np.float32(size)
    coords[labels == PADDING] = 0
    masks = generator.standard_normal((count, 1, size // 4, size // 4), np.float32)
    high_res = [torch.from_numpy(tensors[f"{pictures[0]}/{name}"]) for name in FEATURES[1:3]]
    parts: list[Arrays] = []
    for index, row in enumerate(case.rows):
        points = {
            "point_coords": torch.from_numpy(coords[index : index + 1]),
            "point_labels": torch.from_numpy(labels[index : index + 1]).to(torch.int32),
        }
        mask = torch.from_numpy(masks[index : index + 1]) if row.mask else None
        heads = partial(_run_heads, network, points, mask, high_res)
        embed = torch.from_numpy(tensors[f"{pictures[index % len(pictures)]}/image_embed"])
        embed = _steer(partial(heads, row.multimask), embed, bool(generator.random() < 0.5))
        rule = heads(row.multimask, embed)
        part = {f"rule/{name}": rule[name] for name in DECODED}
        if not case.masks:
            best = rule if row.multimask else heads(True, embed)
            part |= {f"best/{name}": best[name] for name in (*DECODED, "mask_for_mem")}
        parts.append({name: as_array(value) for name, value in part.items()})
        parts[-1]["image_embed"] = as_array(embed)
    prefix = f"decoder/{case.name}"
    tensors[f"{prefix}/point_coords"] = coords
    tensors[f"{prefix}/point_labels"] = labels
    tensors[f"{prefix}/mask_input"] = masks
    tensors[f"{prefix}/has_mask_input"] = np.array([row.mask for row in case.rows], np.float32)
    for name in parts[0]:
        tensors[f"{prefix}/{name}"] = np.concatenate([part[name] for part in parts])
    return {"name": case.name, "picture": pictures[0], "masks": case.masks}


def _steer(heads: Callable[[Tensor], dict[str, Tensor]], embed: Tensor, seen: bool) -> Tensor:
    """Move features along the occlusion logit's gradient until it says clearly what it should.

    Parity is judged by a tensor's own size, and a call's one logit near 0 is all rounding.
    A network that cannot be talked into it within a few steps keeps its own opinion.
    """
    sign = 1.0 if seen else -1.0
    start = embed
    for _ in range(STEPS):
        embed = embed.detach().requires_grad_()
        with torch.enable_grad():  # type: ignore[no-untyped-call]
            logit = sign * heads(embed)["occ_logit"].sum()
            if float(logit) > MARGIN:
                break
            (slope,) = torch.autograd.grad(logit, embed)
        embed = embed + slope * (STRIDE * start.norm() / slope.norm())
    return embed.detach()


def _run_heads(
    network: Any,
    points: Mapping[str, Tensor],
    mask: Tensor | None,
    high_res: list[Tensor],
    multimask: bool,
    embed: Tensor,
) -> dict[str, Tensor]:
    _, _, scores, low, high, pointer, occlusion = network._forward_sam_heads(
        backbone_features=embed,
        point_inputs=dict(points),
        mask_inputs=mask,
        high_res_features=high_res,
        multimask_output=multimask,
    )
    return {
        "obj_ptr": pointer,
        "pred_mask": low,
        "iou": scores.max(dim=1, keepdim=True).values,
        "occ_logit": occlusion,
        "mask_for_mem": prepare_for_memory(network, high),
    }


def _square(path: Path, size: int) -> NDArray[np.uint8]:
    """Return a photograph as upstream's video loader takes it: Pillow's default filter, bicubic."""
    return np.array(Image.fromarray(load_picture(path)).resize((size, size)), np.uint8)


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
