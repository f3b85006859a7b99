"""The four graphs as the tracker calls them, for each of the two contracts.

`Extended` serves the contract tracker-ex, which takes what the tracker knows as it is. `Classic`
serves tracker and tracker-legacy, whose inputs are NVIDIA's: there the caller builds the position
encodings of the memories and the mask that is remembered. B is the number of objects in a call,
S the side of the square that the encoder sees, side = S / 16.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from exporters.media.pictures import masks_to_picture
from exporters.sam2.tracker.memory import RECENT, Recall, pointer_reach

Floats: TypeAlias = NDArray[np.float32]
Tensors: TypeAlias = dict[str, NDArray[Any]]
Run: TypeAlias = Callable[[str, Mapping[str, NDArray[Any]]], Tensors]

_TOKENS_PER_POINTER: Final = 4


@dataclass(frozen=True, kw_only=True)
class Mask:
    """An object on a frame.

    Attributes:
        logits: float32 [S/4, S/4], above 0 inside; covers the whole frame, small holes filled.
        iou: The overlap with the true mask that the model expects.
        occlusion: Above 0 where the model sees the object; a logit.
        pointer: float32 [256], the object in the model's words.
    """

    logits: Floats
    iou: float
    occlusion: float
    pointer: Floats

    @property
    def visible(self) -> bool:
        """Whether the model sees the object on this frame."""
        return self.occlusion > 0


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What the mask decoder says about one object.

    Attributes:
        logits: float32 [S/4, S/4] with its holes.
        mask_for_mem: float32 [S, S], only in the classic contracts.
    """

    logits: Floats
    iou: float
    occlusion: float
    pointer: Floats
    mask_for_mem: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An object on the current frame, before the frame is remembered.

    Attributes:
        prompted: The mask answers a prompt, so it counts as what the user wants.
        conditioning: The object had not been followed to this frame when it was prompted.
    """

    mask: Mask
    decoded: Decoded
    prompted: bool
    conditioning: bool

    @property
    def remembered_logits(self) -> Floats:
        """float32 [S/4, S/4]: users see masks without holes, the model remembers its own as is."""
        return self.mask.logits if self.prompted else self.decoded.logits


class Calls(Protocol):
    """The four graphs; `frame` is what `encode` returned."""

    def encode(self, image: Floats) -> Tensors:
        """Run the image encoder on float32 [1, 3, S, S]."""

    def without_memory(self, frame: Tensors) -> Floats:
        """Return the frame's features for a first prompt, float32 [1, 256, side, side]."""

    def with_memory(self, frame: Tensors, recalls: Sequence[Recall]) -> Floats:
        """Run the memory attention for B recalls of equal sizes; [B, 256, side, side]."""

    def decode(
        self, frame: Tensors, features: Floats, points: Floats, labels: Floats, masks: Floats | None
    ) -> list[Decoded]:
        """Run the mask decoder for B objects.

        Args:
            frame: The frame.
            features: float32 [B, 256, side, side].
            points: float32 [B, P, 2] in pixels of the square.
            labels: float32 [B, P].
            masks: float32 [B, S/4, S/4], earlier logits to be corrected, or None.
        """

    def remember(self, frame: Tensors, seen: Sequence[Seen]) -> Floats:
        """Run the memory encoder for B objects; float32 [B, 64, side, side]."""


class Extended:
    """The contract tracker-ex."""

    def __init__(self, run: Run, num_frames: int | None) -> None:
        self._run = run
        self._divisor = np.float32(pointer_reach(num_frames))

    def encode(self, image: Floats) -> Tensors:
        return self._run("image_encoder", {"image": image})

    def without_memory(self, frame: Tensors) -> Floats:
        return frame["image_embed"]

    def with_memory(self, frame: Tensors, recalls: Sequence[Recall]) -> Floats:
        offsets = np.stack([recall.offsets for recall in recalls])
        feed = {
            "pix_feat": frame["pix_feat"],
            "memory_features": np.stack([recall.features for recall in recalls]),
            "frames_ago": np.stack([recall.frames_ago for recall in recalls]),
            "obj_ptrs": np.stack([recall.pointers for recall in recalls]),
            "obj_ptr_positions": offsets.astype(np.float32) / self._divisor,
        }
        return self._run("memory_attention", feed)["image_embed"]

    def decode(
        self, frame: Tensors, features: Floats, points: Floats, labels: Floats, masks: Floats | None
    ) -> list[Decoded]:
        batch, side = len(features), features.shape[-1]
        if masks is None:
            masks = np.zeros((batch, 4 * side, 4 * side), np.float32)
            has_masks = np.zeros(batch, np.float32)
        else:
            has_masks = np.ones(batch, np.float32)
        feed = {
            "point_coords": points,
            "point_labels": labels,
            "image_embed": features,
            "high_res_feats_0": frame["high_res_feats_0"],
            "high_res_feats_1": frame["high_res_feats_1"],
            "mask_input": masks[:, np.newaxis],
            "has_mask_input": has_masks,
        }
        return _split(self._run("mask_decoder", feed))

    def remember(self, frame: Tensors, seen: Sequence[Seen]) -> Floats:
        feed = {
            "pred_mask": np.stack([one.remembered_logits for one in seen])[:, np.newaxis],
            "is_prompted": np.array([one.prompted for one in seen], np.float32),
            "pix_feat": frame["pix_feat"],
            "occ_logit": _occlusions(seen),
        }
        return self._run("memory_encoder", feed)["memory_features"]


class Classic:
    """The contracts tracker and tracker-legacy.

    The codes of places and times are constants, which the memory encoder hands out; nothing can
    be recalled before it has run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._codes: tuple[Floats, Floats] | None = None

    def encode(self, image: Floats) -> Tensors:
        return self._run("image_encoder", {"image": image})

    def without_memory(self, frame: Tensors) -> Floats:
        return frame["vision_feats"]

    def with_memory(self, frame: Tensors, recalls: Sequence[Recall]) -> Floats:
        feed = {
            "current_vision_feat": frame["vision_feats"],
            "current_vision_pos_embed": frame["vision_pos_embed"],
            "memory_0": np.stack([recall.pointers for recall in recalls]),
            "memory_1": np.stack([recall.features for recall in recalls]),
            "memory_pos_embed": np.stack([self._positions(recall) for recall in recalls]),
            "cond_frame_id_diff": np.array(recalls[0].offsets[0], np.float32),
        }
        return self._run("memory_attention", feed)["image_embed"]

    def decode(
        self, frame: Tensors, features: Floats, points: Floats, labels: Floats, masks: Floats | None
    ) -> list[Decoded]:
        if masks is not None:
            raise ValueError("the classic contracts take no mask")
        feed = {
            "point_coords": points,
            "point_labels": labels,
            "image_embed": features,
            "high_res_feats_0": frame["high_res_feat0"],
            "high_res_feats_1": frame["high_res_feat1"],
        }
        return _split(self._run("mask_decoder", feed))

    def remember(self, frame: Tensors, seen: Sequence[Seen]) -> Floats:
        feed = {
            "mask_for_mem": np.stack([_mask_for_mem(one) for one in seen])[:, np.newaxis],
            "pix_feat": frame["pix_feat"],
            "occ_logit": _occlusions(seen),
        }
        made = self._run("memory_encoder", feed)
        self._codes = (made["maskmem_pos_enc"][0], made["temporal_code"][:, 0])
        return made["maskmem_features"]

    def _positions(self, recall: Recall) -> Floats:
        """Return float32 [F * side * side + 4 * P, 64]: where and when each token of a memory
        belongs.

        Row 0 of the temporal code is for the latest frame, its last one for conditioning frames.
        The graph makes the pointers' rows itself and looks at none of the ones that it is given.
        """
        if self._codes is None:
            raise ValueError("nothing can be recalled before the memory encoder has run once")
        spatial, temporal = self._codes
        rows = [spatial + temporal[ago - 1 if ago else RECENT] for ago in recall.frames_ago]
        unused = np.zeros((_TOKENS_PER_POINTER * len(recall.offsets), spatial.shape[1]), np.float32)
        return np.concatenate([*rows, unused])


def _mask_for_mem(seen: Seen) -> Floats:
    """Return float32 [S, S] from -10 to 10: hard-edged where it answers a prompt, else
    as decoded.
    """
    own = seen.decoded.mask_for_mem
    assert own is not None
    if not seen.prompted:
        return own
    inside = masks_to_picture(seen.remembered_logits[np.newaxis], *own.shape)[0] > 0
    return np.where(inside, np.float32(10), np.float32(-10))


def _occlusions(seen: Sequence[Seen]) -> Floats:
    return np.array([[one.mask.occlusion] for one in seen], np.float32)


def _split(outputs: Tensors) -> list[Decoded]:
    """Return the decoder's outputs, object by object."""
    larger = outputs.get("mask_for_mem")
    return [
        Decoded(
            logits=outputs["pred_mask"][row, 0],
            iou=float(outputs["iou"][row, 0]),
            occlusion=float(outputs["occ_logit"][row, 0]),
            pointer=outputs["obj_ptr"][row],
            mask_for_mem=None if larger is None else larger[row, 0],
        )
        for row in range(len(outputs["iou"]))
    ]
