"""The tracker's image encoder, mask decoder and memory encoder: tensors in and tensors out.

They use upstream's own parts, in the order in which `SAM2Base.track_step` calls them. Each exists
twice: as DeepStream's MaskTracker knows it, and extended by what upstream's predictor does besides.
"""

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from exporters.sam2.prompts import PromptEncoder
from exporters.sam2.tracker.tables import sine_positions

NO_OBJECT: Final = -1024.0
MEMORY_SCALE, MEMORY_BIAS = 20.0, -10.0


def never(x: Tensor) -> Tensor:
    """Return 0.0 for every value of x, NaN and infinities included.

    It keeps an input that a model has no use for: nothing proves to a simplifier that no number
    is above infinity.
    """
    return (x > float("inf")).to(torch.float32)


def check_configuration(sam: Any) -> None:
    """Raise ValueError where a configuration is not that of the published models."""
    expected = {
        "directly_add_no_mem_embed": True,
        "fixed_no_obj_ptr": True,
        "max_cond_frames_in_attn": -1,
        "max_obj_ptrs_in_encoder": 16,
        "multimask_max_pt_num": 1,
        "multimask_min_pt_num": 0,
        "multimask_output_for_tracking": True,
        "memory_temporal_stride_for_eval": 1,
        "non_overlap_masks_for_mem_enc": False,
        "num_maskmem": 7,
        "only_obj_ptrs_in_the_past_for_eval": True,
        "pred_obj_scores": True,
        "sigmoid_bias_for_mem_enc": MEMORY_BIAS,
        "sigmoid_scale_for_mem_enc": MEMORY_SCALE,
        "soft_no_obj_ptr": False,
        "use_multimask_token_for_obj_ptr": True,
        "use_obj_ptrs_in_encoder": True,
    }
    found = {name: getattr(sam, name) for name in expected}
    wrong = [name for name, value in expected.items() if found[name] != value]
    if wrong:
        raise ValueError(f"not a published configuration: {', '.join(wrong)}")


class ImageEncoder(torch.nn.Module):
    """A frame to the features that the other three need.

    Input: float32 [1, 3, S, S]. Outputs: pix_feat [1, 256, S/16, S/16] as it leaves the neck,
    the decoder's two high-resolution features, and pix_feat with the embedding for "no memory"
    added. With `positions` those come in this order and are followed by the constant table
    [N, 1, 256] of positions.
    """

    def __init__(self, sam: Any, side: int, *, positions: bool) -> None:
        super().__init__()
        self.sam = sam
        self.positions = sine_positions(side, int(sam.hidden_dim)) if positions else None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run trunk, neck and the decoder's two projections of high-resolution features."""
        fine, middle, coarse = self.sam.forward_image(image)["backbone_fpn"]
        embedded = coarse + self.sam.no_mem_embed.reshape(1, -1, 1, 1)
        if self.positions is None:
            return coarse, fine, middle, embedded
        return coarse, fine, middle, embedded, self.positions()[:, None]


class MaskDecoder(torch.nn.Module):
    """Prompts and features to one mask each, its scores, and an object pointer."""

    def __init__(self, sam: Any) -> None:
        super().__init__()
        self.prompts = PromptEncoder(sam)
        self.decoder = sam.sam_mask_decoder
        self.pointer = sam.obj_ptr_proj
        self.no_pointer = sam.no_obj_ptr

    def decode(
        self,
        coords: Tensor,
        labels: Tensor,
        dense: Tensor,
        features: tuple[Tensor, ...],
        first: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decode masks [B, M, h, w], their scores and tokens, and occ_logit [B, 1], from `first`
        on.
        """
        image_embed, *high_res = features
        masks, scores, tokens, occ_logit = self.decoder.predict_masks(
            image_embeddings=image_embed,
            image_pe=self.prompts.positions(),
            sparse_prompt_embeddings=self.prompts.points(coords, labels),
            dense_prompt_embeddings=dense,
            repeat_image=False,
            high_res_features=high_res,
            first_mask=first,
        )
        return masks, scores[:, first:], tokens[:, first:], occ_logit

    def point(self, token: Tensor, occ_logit: Tensor) -> Tensor:
        """Return the object pointer [B, 256] of a mask's token [B, 1, 256]."""
        return torch.where(occ_logit > 0, self.pointer(token[:, 0]), self.no_pointer)


class TrackerMaskDecoder(MaskDecoder):
    """The best of three masks, whatever the prompts, and the same mask made ready for memory."""

    def forward(
        self,
        point_coords: Tensor,
        point_labels: Tensor,
        image_embed: Tensor,
        high_res_feats_0: Tensor,
        high_res_feats_1: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the contract's five outputs."""
        features = (image_embed, high_res_feats_0, high_res_feats_1)
        masks, scores, tokens, occ_logit = self.decode(
            point_coords, point_labels, self.prompts.no_mask(), features, first=1
        )
        best = scores.argmax(dim=1, keepdim=True)
        mask = hide(choose_mask(masks, best), occ_logit)
        mask_for_mem = prepare_mask(torch.sigmoid(enlarge(mask)))
        pointer = self.point(choose(tokens, best), occ_logit)
        return pointer, mask_for_mem, mask, scores.gather(1, best), occ_logit


class ExtendedMaskDecoder(MaskDecoder):
    """One mask by upstream's rules, with mask prompts.

    A row with at most one label other than -1 gets the best of three masks; a row with more, and a
    box counts as two, gets the single mask, or the best of three where that one is not stable.
    """

    def __init__(self, sam: Any) -> None:
        super().__init__(sam)
        if not self.decoder.dynamic_multimask_via_stability:
            raise ValueError("a mask decoder without the stability fallback")

    def forward(
        self,
        point_coords: Tensor,
        point_labels: Tensor,
        image_embed: Tensor,
        high_res_feats_0: Tensor,
        high_res_feats_1: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the contract's four outputs."""
        features = (image_embed, high_res_feats_0, high_res_feats_1)
        dense = self.prompts.masks(mask_input, has_mask_input)
        masks, scores, tokens, occ_logit = self.decode(
            point_coords, point_labels, dense, features, first=0
        )
        best = scores[:, 1:].argmax(dim=1, keepdim=True) + 1
        given = (point_labels != -1).to(torch.float32).sum(dim=1, keepdim=True)
        several = (given <= 1).to(torch.int64)
        stable = self.is_stable(masks[:, :1]).to(torch.int64)
        # Indices are multiplied, not selected with Where: 0 is the single mask.
        shown = best * (1 - (1 - several) * stable)
        mask = hide(choose_mask(masks, shown), occ_logit)
        # The pointer is the single mask's even where that mask was not shown.
        pointer = self.point(choose(tokens, best * several), occ_logit)
        return pointer, mask, scores.gather(1, shown), occ_logit

    def is_stable(self, mask: Tensor) -> Tensor:
        """Compare upstream's stability score of [B, 1, h, w] against its threshold: bool [B, 1]."""
        delta = float(self.decoder.dynamic_multimask_stability_delta)
        threshold = float(self.decoder.dynamic_multimask_stability_thresh)
        flat = mask.flatten(2)
        # Shares, not counts: those of 65,536 cells are beyond float16.
        smaller = (flat > delta).to(torch.float32).mean(dim=-1)
        larger = (flat > -delta).to(torch.float32).mean(dim=-1)
        least = 1.0 / int(flat.shape[-1])
        # An empty mask is stable; below the share of one cell there is only 0 / 0.
        return torch.where(larger > 0, smaller / larger.clamp(min=least), 1.0) >= threshold


class MemoryEncoder(torch.nn.Module):
    """A frame's features and a mask to what the object is remembered by."""

    def __init__(self, sam: Any) -> None:
        super().__init__()
        self.encoder = sam.memory_encoder
        self.hidden = sam.no_obj_embed_spatial

    def remember(self, mask: Tensor, pix_feat: Tensor, occ_logit: Tensor) -> Tensor:
        """Encode a memory: [B, 1, S, S] within +-10, [1, 256, h, w] and [B, 1] to [B, 64, h, w]."""
        fused = self.encoder.pix_feat_proj(pix_feat) + self.encoder.mask_downsampler(mask)
        features = self.encoder.out_proj(self.encoder.fuser(fused))
        if self.hidden is None:
            result: Tensor = features + never(occ_logit)[:, :, None, None]
        else:
            hidden = torch.where(occ_logit > 0, 0.0, self.hidden)
            result = features + hidden[:, :, None, None]
        return result


class TrackerMemoryEncoder(MemoryEncoder):
    """The memory of a mask that the decoder has made ready, and two constants beside it.

    With `double_sigmoid` the mask is taken for logits and goes through scale, bias and sigmoid once
    more, as in the public exporter; upstream does that once.
    """

    codes: Tensor

    def __init__(self, sam: Any, side: int, *, double_sigmoid: bool) -> None:
        super().__init__(sam)
        self.double_sigmoid = double_sigmoid
        self.positions = sine_positions(side, int(sam.mem_dim))
        self.register_buffer("codes", sam.maskmem_tpos_enc.detach()[:, 0, 0])

    def forward(
        self, mask_for_mem: Tensor, pix_feat: Tensor, occ_logit: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the contract's three outputs."""
        if self.double_sigmoid:
            mask_for_mem = prepare_mask(torch.sigmoid(mask_for_mem))
        features = self.remember(mask_for_mem, pix_feat, occ_logit)
        positions = self.positions()[None].expand(mask_for_mem.shape[0], -1, -1)
        # A node must make an output: the exporter would fold a mere reshape of a constant.
        codes = self.codes[:, None, None].expand(int(self.codes.shape[0]), -1, -1, -1)
        return features, positions, codes


class ExtendedMemoryEncoder(MemoryEncoder):
    """The memory of a mask as the decoder gives it, binarized where a prompt led to it."""

    def forward(
        self, pred_mask: Tensor, is_prompted: Tensor, pix_feat: Tensor, occ_logit: Tensor
    ) -> Tensor:
        """Return the contract's one output."""
        logits = enlarge(pred_mask)
        prompted = (is_prompted > 0).reshape(-1, 1, 1, 1)
        inside = torch.where(prompted, (logits > 0).to(torch.float32), torch.sigmoid(logits))
        return self.remember(prepare_mask(inside), pix_feat, occ_logit)


def choose(values: Tensor, index: Tensor) -> Tensor:
    """Choose of [B, M, C] the one that [B, 1] names: [B, 1, C]."""
    return values.gather(1, index[:, :, None].expand(-1, -1, int(values.shape[2])))


def choose_mask(masks: Tensor, index: Tensor) -> Tensor:
    """Choose of [B, M, h, w] the one that [B, 1] names: [B, 1, h, w]."""
    height, width = int(masks.shape[2]), int(masks.shape[3])
    return torch.unflatten(choose(masks.flatten(2), index), 2, (height, width))


def hide(mask: Tensor, occ_logit: Tensor) -> Tensor:
    """Return the mask, or nothing anywhere where the object is not to be seen."""
    return torch.where(occ_logit[:, :, None, None] > 0, mask, NO_OBJECT)


def enlarge(mask: Tensor) -> Tensor:
    """Enlarge logits to the frame's size, four times that of the decoder's masks, bilinearly."""
    enlarged: Tensor = interpolate(mask, scale_factor=4.0, mode="bilinear", align_corners=False)
    return enlarged


def prepare_mask(inside: Tensor) -> Tensor:
    """Turn 0 to 1 into -10 to 10, the range that memory was trained on."""
    return inside * MEMORY_SCALE + MEMORY_BIAS
