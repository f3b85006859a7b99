"""What upstream's memory encoder and memory attention make of masks and of memories."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from exporters.protocol import report_progress
from exporters.sam2.tracker.cases import (
    MAX_MEMORIES,
    MAX_POINTERS,
    AttentionCase,
    Floats,
    Grid,
    attention_cases,
)

Arrays = dict[str, NDArray[Any]]


def encode_memories(
    network: Any,
    grid: Grid,
    pictures: Sequence[str],
    tensors: Arrays,
    generator: np.random.Generator,
) -> list[dict[str, Any]]:
    """Encode memories of prompted and tracked masks, of objects that are there and that are not."""
    size = int(network.image_size)
    described = []
    for number, batch in enumerate(grid.batches):
        for kind in ("prompted", "tracked", *(("mixed",) if batch > 1 else ())):
            name = f"{kind}, batch {batch}"
            picture = pictures[number % len(pictures)]
            coarse = generator.standard_normal((batch, 1, 8, 8), np.float32) * np.float32(8)
            fine = generator.standard_normal((batch, 1, size // 4, size // 4), np.float32)
            smooth = interpolate(torch.from_numpy(coarse), fine.shape[-2:], mode="bilinear")
            low = np.asarray(smooth.numpy() + fine, np.float32)
            first = kind == "prompted"
            prompted = np.array([first != (kind == "mixed" and i % 2 == 0) for i in range(batch)])
            signs = np.array([[(-1.0) ** (i + number)] for i in range(batch)], np.float32)
            occlusion = np.asarray(signs * generator.uniform(0.1, 5, (batch, 1)), np.float32)
            high = interpolate(torch.from_numpy(low), (size, size), mode="bilinear")
            for_memory = torch.where(
                torch.from_numpy(prompted)[:, None, None, None],
                (high > 0).float() * 20 - 10,
                prepare_for_memory(network, high),
            )
            prefix = f"memory/{name}"
            tensors[f"{prefix}/pred_mask"] = low
            tensors[f"{prefix}/mask_for_mem"] = as_array(for_memory)
            tensors[f"{prefix}/is_prompted"] = prompted.astype(np.float32)
            tensors[f"{prefix}/occ_logit"] = occlusion
            pix_feat = torch.from_numpy(tensors[f"{picture}/pix_feat"])
            rows = [
                _encode_memory(network, pix_feat, high[i : i + 1], occlusion[i : i + 1], shown)
                for i, shown in enumerate(prompted)
            ]
            legacy = [
                _encode_memory(
                    network, pix_feat, for_memory[i : i + 1], occlusion[i : i + 1], False
                )
                for i in range(batch)
            ]
            tensors[f"{prefix}/memory_features"] = np.concatenate(
                [as_array(row[0]) for row in rows]
            )
            tensors[f"{prefix}/legacy"] = np.concatenate([as_array(row[0]) for row in legacy])
            if "memory_positions" not in tensors:
                (places,) = rows[0][1]
                tensors["memory_positions"] = as_array(places[0].flatten(1).permute(1, 0))
            described.append({"name": name, "picture": picture})
    return described


def _encode_memory(
    network: Any, pix_feat: Tensor, high: Tensor, occlusion: Floats, prompted: bool
) -> tuple[Tensor, list[Tensor]]:
    memory: tuple[Tensor, list[Tensor]] = network._encode_new_memory(
        current_vision_feats=[pix_feat.flatten(2).permute(2, 0, 1)],
        feat_sizes=[tuple(pix_feat.shape[-2:])],
        pred_masks_high_res=high,
        object_score_logits=torch.from_numpy(occlusion),
        is_mask_from_pts=prompted,
    )
    return memory


def attend_all(
    network: Any,
    grid: Grid,
    pictures: Sequence[str],
    tensors: Arrays,
    generator: np.random.Generator,
) -> list[dict[str, Any]]:
    """Attend to banks of every size and kind, one object at a time; all draw from the same
    memories.
    """
    side = int(network.image_size) // 16
    most = max(3, *grid.batches)
    shape = (most, MAX_MEMORIES, int(network.mem_dim), side, side)
    tensors["features"] = generator.standard_normal(shape, np.float32)
    tensors["pointers"] = generator.standard_normal(
        (most, MAX_POINTERS, int(network.hidden_dim)), np.float32
    )
    described = []
    for number, case in enumerate(cases := attention_cases(grid, generator)):
        done = 0.25 + 0.3 * number / len(cases)
        report_progress(done, f"running unpatched memory attention, {case.name}")
        picture = pictures[number % len(pictures)]
        pix_feat = torch.from_numpy(tensors[f"{picture}/pix_feat"])
        features, pointers = take_banks(case, tensors["features"], tensors["pointers"])
        rows = [
            attend(
                network,
                pix_feat,
                torch.from_numpy(features[row]),
                bank.frames_ago,
                torch.from_numpy(pointers[row]),
                bank.positions,
            )
            for row, bank in enumerate(case.banks)
        ]
        tensors[f"attention/{case.name}/image_embed"] = np.concatenate(
            [as_array(row) for row in rows]
        )
        described.append(
            {
                "name": case.name,
                "picture": picture,
                "conditioning": case.conditioning,
                "frames_ago": [list(bank.frames_ago) for bank in case.banks],
                "positions": [list(bank.positions) for bank in case.banks],
            }
        )
    return described


def take_banks(case: AttentionCase, features: Floats, pointers: Floats) -> tuple[Floats, Floats]:
    """Return a case's share of the pools: features [B, F, 64, h, h] and pointers [B, P, 256]."""
    batch, bank = len(case.banks), case.banks[0]
    return (
        features[:batch, : len(bank.frames_ago)],
        pointers[:batch, : len(bank.positions)],
    )


def attend(
    network: Any,
    pix_feat: Tensor,
    features: Tensor,
    frames_ago: Sequence[int],
    pointers: Tensor,
    positions: Sequence[float],
) -> Tensor:
    """Run upstream's memory attention on one object's memory, as `SAM2Base` puts it together.

    Its own `_prepare_memory_conditioned_features` knows only banks that its rules lead to.

    Args:
        network: An unpatched `SAM2Base`.
        pix_feat: [1, 256, h, h].
        features: [F, 64, h, h].
        frames_ago: F numbers: 0 of a conditioning frame, else 1 to 6.
        pointers: [P, 256].
        positions: P times, over the divisor.

    Returns:
        [1, 256, h, h].
    """
    from sam2.modeling.sam2_utils import get_1d_sine_pe

    side, width = int(pix_feat.shape[-1]), int(network.mem_dim)
    places = network.memory_encoder.position_encoding(features[:1]).flatten(2).permute(2, 0, 1)
    codes = [network.maskmem_tpos_enc[(ago or network.num_maskmem) - 1] for ago in frames_ago]
    tokens = [one[None].flatten(2).permute(2, 0, 1) for one in features]
    split = pointers[:, None].reshape(-1, 1, int(network.hidden_dim) // width, width)
    split = split.permute(0, 2, 1, 3).flatten(0, 1)
    if network.add_tpos_enc_to_obj_ptrs:
        sines = get_1d_sine_pe(torch.tensor(positions, dtype=torch.float32), network.hidden_dim)
        times = network.obj_ptr_tpos_proj(sines)
    else:
        times = pointers.new_zeros(len(positions), width)
    times = times[:, None].repeat_interleave(int(network.hidden_dim) // width, dim=0)
    positions_of_frame = network.image_encoder.neck.position_encoding(pix_feat)
    attended = network.memory_attention(
        curr=[pix_feat.flatten(2).permute(2, 0, 1)],
        curr_pos=[positions_of_frame.flatten(2).permute(2, 0, 1)],
        memory=torch.cat([*tokens, split]),
        memory_pos=torch.cat([*(places + code for code in codes), times]),
        num_obj_ptr_tokens=len(split),
    )
    result: Tensor = attended.permute(1, 2, 0).reshape(1, -1, side, side)
    return result


def prepare_for_memory(network: Any, high: Tensor) -> Tensor:
    """Return the public exporter's `mask_for_mem` of a mask [B, 1, S, S]."""
    scale, bias = network.sigmoid_scale_for_mem_enc, network.sigmoid_bias_for_mem_enc
    result: Tensor = torch.sigmoid(high) * scale + bias
    return result


def as_array(value: Tensor) -> Floats:
    """Return a tensor as float32, contiguous."""
    return np.ascontiguousarray(value.numpy(), np.float32)
