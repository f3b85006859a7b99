"""SAM 2's still-image path as two modules with tensors in and tensors out.

Both use upstream's own parts; what they add is the order of calls in `SAM2ImagePredictor`, written
so that a trace of it needs no shapes: see the patches for the same in upstream's parts.
"""

from typing import Any

import torch
from torch import Tensor

from exporters.sam2.prompts import PromptEncoder


class ImageEncoder(torch.nn.Module):
    """A normalized picture to the features that the decoder needs.

    Input: float32 [B, 3, S, S]. Outputs, in this order: high_res_feats_0 [B, 32, S/4, S/4],
    high_res_feats_1 [B, 64, S/8, S/8], image_embed [B, 256, S/16, S/16], the last with the
    embedding for "no memory" added, as for a still image.
    """

    def __init__(self, sam: Any) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run trunk, neck and the decoder's two projections of high-resolution features."""
        fine, middle, coarse = self.sam.forward_image(image)["backbone_fpn"]
        if self.sam.directly_add_no_mem_embed:
            coarse = coarse + self.sam.no_mem_embed.reshape(1, -1, 1, 1)
        return fine, middle, coarse


class MaskDecoder(torch.nn.Module):
    """Prompts to masks, three a prompt set, for one picture's features.

    Labels: 1 foreground, 0 background, 2 and 3 a box's corners, -1 padding. A padding point is
    always added, as upstream does for points without a separate box. Masks are logits, clamped to
    +-32. With `mask_prompt`, a set's `mask_input` counts where its `has_mask_input` is above 0,
    and is otherwise not looked at, whatever it holds.
    """

    def __init__(self, sam: Any, *, mask_prompt: bool) -> None:
        super().__init__()
        self.prompts = PromptEncoder(sam)
        self.decoder = sam.sam_mask_decoder
        self.mask_prompt = mask_prompt

    def forward(
        self,
        image_embed: Tensor,
        high_res_feats_0: Tensor,
        high_res_feats_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        *mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs; `mask` is (mask_input, has_mask_input) where the module takes mask
        prompts.
        """
        masks, scores, _, _ = self.decoder.predict_masks(
            image_embeddings=image_embed,
            image_pe=self.prompts.positions(),
            sparse_prompt_embeddings=self.prompts.points(point_coords, point_labels),
            dense_prompt_embeddings=(
                self.prompts.masks(*mask) if self.mask_prompt else self.prompts.no_mask()
            ),
            repeat_image=True,
            high_res_features=[high_res_feats_0, high_res_feats_1],
            first_mask=1,
        )
        return masks.clamp(-32.0, 32.0), scores[:, 1:]
