"""Prompts on their way into upstream's mask decoder, without shapes or branches in the trace."""

from typing import Any

import torch
from torch import Tensor


class PromptEncoder(torch.nn.Module):
    """Upstream's `PromptEncoder`: points, boxes as two points, and masks that may be absent.

    Labels: 1 foreground, 0 background, 2 and 3 a box's corners, -1 padding.
    """

    grid: Tensor

    def __init__(self, sam: Any) -> None:
        super().__init__()
        self.prompts = sam.sam_prompt_encoder
        height, width = self.prompts.image_embedding_size
        rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height
        columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
        self.register_buffer("grid", grid.to(torch.float32), persistent=False)

    def points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Encode sparse prompts: [N, P, 2] pixels and [N, P] labels to [N, P + 1, 256].

        A padding point is always added, as upstream does for points without a separate box.
        """
        points = self.prompts._embed_points(coords, labels, pad=False)
        padding = self.prompts.not_a_point_embed.weight.unsqueeze(0)
        return torch.cat([points, padding.expand(points.shape[0], -1, -1)], dim=1)

    def masks(self, mask_input: Tensor, has_mask_input: Tensor) -> Tensor:
        """Encode dense prompts [N, 256, h, w]: [N, 1, 4 h, 4 w] logits, used where [N] is
        above 0.
        """
        present = (has_mask_input > 0).reshape(-1, 1, 1, 1)
        # Where, not a product: an absent mask may hold anything, NaN included.
        return torch.where(present, self.prompts.mask_downscaling(mask_input), self.no_mask())

    def no_mask(self) -> Tensor:
        """Return the dense prompt where there is no mask: [1, 256, 1, 1]."""
        absent: Tensor = self.prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)
        return absent

    def positions(self) -> Tensor:
        """Compute upstream's `get_dense_pe` of the grid [1, 256, h, w].

        The graph computes it: sines baked into the file would take 4 MB and depend on the machine.
        """
        encoded: Tensor = self.prompts.pe_layer._pe_encoding(self.grid)
        return encoded.permute(2, 0, 1).unsqueeze(0)
