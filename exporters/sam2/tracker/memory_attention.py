"""The tracker's memory attention, as the contracts call it: what places and times its memory."""

from typing import Any, Final

import mpmath
import numpy as np
import torch
from torch import Tensor

from exporters.sam2.tracker.attention import MemoryAttention
from exporters.sam2.tracker.modules import never
from exporters.sam2.tracker.tables import sine_positions

MOST_POINTERS: Final = 16
# Far below what any query and key score, so that softmax gives exactly 0; a number in float16 too.
EXCLUDED: Final = -1e4


class PointerTimes(torch.nn.Module):
    """Upstream's `get_1d_sine_pe` and `obj_ptr_tpos_proj`: how long ago a pointer's frame was.

    SAM 2.0 gives pointers no time; there the result is 0, whatever goes in.
    """

    periods: Tensor

    def __init__(self, sam: Any) -> None:
        super().__init__()
        self.project = sam.obj_ptr_tpos_proj if sam.add_tpos_enc_to_obj_ptrs else None
        if self.project is not None and not (
            sam.proj_tpos_enc_in_obj_ptrs and sam.use_signed_tpos_enc_to_obj_ptrs
        ):
            raise ValueError("pointer times of an unknown kind")
        half = int(sam.hidden_dim) // 2
        periods = [
            float(mpmath.mpf(10000) ** (mpmath.mpf(2 * (i // 2)) / half)) for i in range(half)
        ]
        table = torch.from_numpy(np.array(periods).astype(np.float32))
        self.register_buffer("periods", table)

    def forward(self, times: Tensor) -> Tensor:
        """Encode [B, P], 1.0 the longest time, to [B, 64, P, 1]; to zeros [B, 1, P, 1] for
        SAM 2.0.
        """
        times = times[:, :, None]
        if self.project is None:
            return never(times).transpose(1, 2)[..., None]
        angles = times / self.periods
        encoded: Tensor = self.project(torch.cat([angles.sin(), angles.cos()], dim=-1))
        return encoded.transpose(1, 2)[..., None]


class TrackerMemoryAttention(torch.nn.Module):
    """Memory attention with the public exporter's inputs.

    Pointers are taken to lie on the conditioning frame and then 1, 2, ... frames ago, of a video of
    at least 16 frames; the caller places the spatial memory in space and time.
    """

    steps: Tensor
    first: Tensor

    def __init__(self, sam: Any, side: int, *, parts: int) -> None:
        super().__init__()
        self.attention = MemoryAttention(sam.memory_attention, side, parts=parts)
        self.times = PointerTimes(sam)
        self.no_memory = sam.no_mem_embed
        self.side = side
        self.width = int(sam.mem_dim)
        steps = torch.arange(MOST_POINTERS, dtype=torch.float32)
        self.register_buffer("steps", steps)
        self.register_buffer("first", (steps == 0).to(torch.float32))

    def forward(
        self,
        current_vision_feat: Tensor,
        current_vision_pos_embed: Tensor,
        memory_0: Tensor,
        memory_1: Tensor,
        memory_pos_embed: Tensor,
        cond_frame_id_diff: Tensor,
    ) -> Tensor:
        """Return the contract's one output."""
        cells = self.side**2
        features = current_vision_feat.flatten(2).transpose(1, 2) - self.no_memory
        places = memory_pos_embed[:, : memory_1.shape[1] * cells].transpose(1, 2)
        # A sum, not a concatenation: that would be with nothing where there is one pointer.
        times = (self.steps + self.first * cond_frame_id_diff)[: memory_0.shape[1]]
        conditioned = self.attention(
            features,
            current_vision_pos_embed.transpose(0, 1),
            cells_of(memory_1),
            torch.unflatten(places, 2, (-1, cells)),
            tokens_of(memory_0, self.width),
            self.times(times[None] / (MOST_POINTERS - 1)),
        )
        return as_map(conditioned, self.side)


class PlacedMemoryAttention(torch.nn.Module):
    """Memory attention that knows places itself and is told the times of each object's memory."""

    codes: Tensor

    def __init__(self, sam: Any, side: int, *, parts: int) -> None:
        super().__init__()
        self.attention = MemoryAttention(sam.memory_attention, side, parts=parts)
        self.times = PointerTimes(sam)
        self.positions = sine_positions(side, int(sam.hidden_dim))
        self.places = sine_positions(side, int(sam.mem_dim))
        self.side = side
        self.width = int(sam.mem_dim)
        # Upstream's last row is a conditioning frame's; here that is 0 frames ago, the first.
        codes = sam.maskmem_tpos_enc.detach().flatten(1).roll(1, dims=0)
        self.register_buffer("codes", codes)

    def condition(
        self,
        pix_feat: Tensor,
        memory_features: Tensor,
        frames_ago: Tensor,
        obj_ptrs: Tensor,
        obj_ptr_positions: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Attend to a memory, whose tokens may have a bias [B, 1, tokens]."""
        times = self.codes[frames_ago].transpose(1, 2)
        conditioned = self.attention(
            pix_feat.flatten(2).transpose(1, 2),
            self.positions()[None],
            cells_of(memory_features),
            times[..., None] + self.places().transpose(0, 1)[:, None],
            tokens_of(obj_ptrs, self.width),
            self.times(obj_ptr_positions),
            bias,
        )
        return as_map(conditioned, self.side)


class ExtendedMemoryAttention(PlacedMemoryAttention):
    """Memory attention of any number of objects, frames and pointers."""

    def forward(
        self,
        pix_feat: Tensor,
        memory_features: Tensor,
        frames_ago: Tensor,
        obj_ptrs: Tensor,
        obj_ptr_positions: Tensor,
    ) -> Tensor:
        """Return the contract's one output."""
        return self.condition(pix_feat, memory_features, frames_ago, obj_ptrs, obj_ptr_positions)


class StaticMemoryAttention(PlacedMemoryAttention):
    """Memory attention of fixed shapes: one object, with slots for frames and pointers.

    A slot is empty where its flag is not above 0. Whatever an empty one holds, NaN included, is
    replaced before anything looks at it, and its tokens get no weight. Where all slots are empty
    the result is what upstream takes for a frame without memory: the features with the embedding
    of no memory added.
    """

    def __init__(self, sam: Any, side: int, *, parts: int) -> None:
        super().__init__(sam, side, parts=parts)
        self.no_memory = sam.no_mem_embed

    def forward(
        self,
        pix_feat: Tensor,
        memory_features: Tensor,
        frames_ago: Tensor,
        obj_ptrs: Tensor,
        obj_ptr_positions: Tensor,
        frames_valid: Tensor,
        pointers_valid: Tensor,
    ) -> Tensor:
        """Return the contract's one output."""
        frames, pointers = frames_valid > 0, pointers_valid > 0
        conditioned = self.condition(
            pix_feat,
            torch.where(frames[:, :, None, None, None], memory_features, 0.0),
            torch.where(frames, frames_ago, 0),
            torch.where(pointers[:, :, None], obj_ptrs, 0.0),
            torch.where(pointers, obj_ptr_positions, 0.0),
            torch.cat(
                [
                    exclude(frames, self.side**2),
                    exclude(pointers, int(obj_ptrs.shape[2]) // self.width),
                ],
                dim=1,
            )[:, None],
        )
        some = torch.cat([frames, pointers], dim=1).to(torch.float32).amax(dim=1) > 0
        unconditioned = pix_feat + self.no_memory.reshape(1, -1, 1, 1)
        return torch.where(some[:, None, None, None], conditioned, unconditioned)


def exclude(valid: Tensor, tokens: int) -> Tensor:
    """Return what takes the weight from slots' tokens: bool [B, S] to [B, S * tokens], 0 where
    valid.
    """
    bias: Tensor = (1.0 - valid.to(torch.float32)) * EXCLUDED
    return bias[:, :, None].expand(-1, -1, tokens).flatten(1)


def as_map(tokens: Tensor, side: int) -> Tensor:
    """Turn [B, side * side, C] to [B, C, side, side]."""
    return torch.unflatten(tokens.transpose(1, 2), 2, (side, side))


def cells_of(memory: Tensor) -> Tensor:
    """Turn frames of memory [B, F, C, h, w] to [B, C, F, h * w]."""
    return memory.flatten(3).transpose(1, 2)


def tokens_of(pointers: Tensor, width: int) -> Tensor:
    """Turn pointers [B, P, 256] to tokens of `width` channels each: [B, width, P, 256 / width]."""
    return torch.unflatten(pointers, 2, (-1, width)).permute(0, 3, 1, 2)
