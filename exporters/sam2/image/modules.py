"""SAM 2's still-image path as two modules with tensors in and tensors out.

Both use upstream's own parts; what they add is the order of calls in `SAM2ImagePredictor`, written
so that a trace of it needs no shapes: see the patches for the same in upstream's parts.
"""

from typing import Any

import torch
from torch import Tensor


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
        """Runs trunk, neck and the decoder's two projections of high-resolution features."""
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
        self.prompts = sam.sam_prompt_encoder
        self.decoder = sam.sam_mask_decoder
        self.mask_prompt = mask_prompt
        height, width = self.prompts.image_embedding_size
        rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height
        columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
        self.register_buffer("grid", grid.to(torch.float32), persistent=False)

    def forward(
        self,
        image_embed: Tensor,
        high_res_feats_0: Tensor,
        high_res_feats_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        *mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """`mask` is (mask_input, has_mask_input) where the module takes mask prompts."""
        points = self.prompts._embed_points(point_coords, point_labels, pad=False)
        padding = self.prompts.not_a_point_embed.weight.unsqueeze(0)
        sparse = torch.cat([points, padding.expand(points.shape[0], -1, -1)], dim=1)
        masks, scores, _, _ = self.decoder.predict_masks(
            image_embeddings=image_embed,
            image_pe=self._encode_positions(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=self._embed_masks(*mask),
            repeat_image=True,
            high_res_features=[high_res_feats_0, high_res_feats_1],
            first_mask=1,
        )
        return masks.clamp(-32.0, 32.0), scores[:, 1:]

    def _encode_positions(self) -> Tensor:
        """Upstream's `get_dense_pe` of the grid [1, 256, h, w].

        The graph computes it: sines baked into the file would take 4 MB and depend on the machine.
        """
        encoded: Tensor = self.prompts.pe_layer._pe_encoding(self.grid)
        return encoded.permute(2, 0, 1).unsqueeze(0)

    def _embed_masks(self, *mask: Tensor) -> Tensor:
        """The dense prompt [N or 1, 256, h, w or 1, 1]."""
        absent: Tensor = self.prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)
        if not self.mask_prompt:
            return absent
        mask_input, has_mask_input = mask
        present = (has_mask_input > 0).reshape(-1, 1, 1, 1)
        # Where, not a product: an absent mask may hold anything, NaN included.
        return torch.where(present, self.prompts.mask_downscaling(mask_input), absent)
