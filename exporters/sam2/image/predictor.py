"""Runs the image contracts' graphs as a user's program would: numpy and onnxruntime alone.

The encoder runs once for a picture; the decoder runs once for all of its prompt sets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exporters.graphs.sessions import Sessions
from exporters.media.pictures import preprocess
from exporters.media.prompts import PromptSet
from exporters.protocol import BAD_INPUT, StageError, report_progress

Tensors = dict[str, NDArray[np.float32]]

PADDING: Final = -1
BACKGROUND, FOREGROUND = 0, 1
BOX_FIRST, BOX_SECOND = 2, 3


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the decoder says about one prompt set.

    Attributes:
        logits: float32 [masks, h, w], positive inside; covers the whole picture.
        scores: float32 [masks], the overlap with the true mask that the model expects.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]

    @property
    def best(self) -> int:
        """The index of the mask with the highest score."""
        return int(self.scores.argmax())


@dataclass(kw_only=True)
class ImagePredictor:
    """An encoder and a decoder, loaded.

    Attributes:
        image: The name of the encoder's input.
        size: Side of the square that the encoder takes, in pixels.
        mask_size: (height, width) of a mask prompt, or None where the contract takes none.
    """

    sessions: Sessions
    image: str
    size: int
    mask_size: tuple[int, int] | None

    @property
    def seconds(self) -> dict[str, float]:
        """How long loading and the latest run of each graph took."""
        latest = {name: runs[-1] for name, runs in self.sessions.run_seconds.items() if runs}
        return {"session_load": self.sessions.load_seconds, **latest}

    def encode(self, picture: NDArray[np.uint8]) -> Tensors:
        """Run the encoder; uint8 [H, W, 3] to the decoder's inputs by name."""
        return self.sessions.run("encoder", {self.image: preprocess(picture, self.size, self.size)})

    def decode(
        self, features: Tensors, prompts: Sequence[PromptSet], height: int, width: int
    ) -> list[Prediction]:
        """Run the decoder on all prompt sets of one picture at once.

        Args:
            features: What `encode` returned.
            prompts: Prompt sets in pixels of the picture.
            height: The picture's height.
            width: The picture's width.

        Raises:
            StageError: A mask prompt was given and the contract takes none (exit code 2), or the
                graph failed.
        """
        feed = features | prompt_tensors(prompts, height, width, self.size, self.mask_size)
        outputs = self.sessions.run("decoder", feed)
        return [
            Prediction(logits=logits, scores=scores)
            for logits, scores in zip(outputs["masks"], outputs["iou_predictions"], strict=True)
        ]

    def predict(self, picture: NDArray[np.uint8], prompts: Sequence[PromptSet]) -> list[Prediction]:
        """Run `encode`, then `decode`: one prediction for each prompt set."""
        if any(one.mask is not None for one in prompts) and self.mask_size is None:
            raise _no_mask_input()
        report_progress(None, "encoding the picture")
        features = self.encode(picture)
        report_progress(None, "decoding the prompts")
        return self.decode(features, prompts, *picture.shape[:2])


def open_graphs(
    contract: Mapping[str, Any], files: Mapping[str, Path], threads: int
) -> ImagePredictor:
    """Load the graphs of an image contract.

    Args:
        contract: The golden contract; its graphs are named encoder and decoder.
        files: The .onnx files by the graphs' names.
        threads: How many threads onnxruntime may use.

    Raises:
        StageError: onnxruntime cannot create a session.
    """
    graphs = {graph["name"]: graph for graph in contract["graphs"]}
    dims = {one["name"]: one["dims"] for one in graphs["decoder"]["inputs"]}
    mask = dims.get("mask_input")
    report_progress(None, "loading the graphs")
    image = graphs["encoder"]["inputs"][0]
    return ImagePredictor(
        sessions=Sessions(files, threads, contract.get("session", {})),
        image=image["name"],
        size=int(image["dims"][-1]),
        mask_size=None if mask is None else (int(mask[-2]), int(mask[-1])),
    )


def prompt_tensors(
    prompts: Sequence[PromptSet],
    height: int,
    width: int,
    size: int,
    mask_size: tuple[int, int] | None,
) -> Tensors:
    """Turn N prompt sets into the decoder's inputs.

    A box becomes two points before the others, as upstream does it; sets with fewer points are
    filled up with padding points, and a set without any has one.

    Args:
        prompts: N prompt sets in pixels of the picture.
        height: The picture's height.
        width: The picture's width.
        size: Side of the square that the encoder saw.
        mask_size: (height, width) of `mask_input`, or None where the contract has none.

    Returns:
        point_coords float32 [N, P, 2] in pixels of the square and point_labels float32 [N, P];
        with a mask size also mask_input float32 [N, 1, h, w] and has_mask_input float32 [N].

    Raises:
        StageError: There is a mask but no mask size (exit code 2).
    """
    rows = [_points_of(one) for one in prompts]
    longest = max(1, *(len(row) for row in rows))
    coords = np.zeros((len(rows), longest, 2), dtype=np.float32)
    labels = np.full((len(rows), longest), PADDING, dtype=np.float32)
    for number, row in enumerate(rows):
        for place, (x, y, label) in enumerate(row):
            coords[number, place] = (x, y)
            labels[number, place] = label
    tensors = {
        "point_coords": coords / np.array((width, height), np.float32) * np.float32(size),
        "point_labels": labels,
    }
    if mask_size is not None:
        masks = [mask_logits(one.mask, *mask_size) for one in prompts]
        tensors["mask_input"] = np.stack(masks)[:, np.newaxis]
        tensors["has_mask_input"] = np.array(
            [one.mask is not None for one in prompts], dtype=np.float32
        )
    elif any(one.mask is not None for one in prompts):
        raise _no_mask_input()
    return tensors


def mask_logits(mask: NDArray[np.bool_] | None, height: int, width: int) -> NDArray[np.float32]:
    """Turn a mask of the picture into the logits that the decoder takes.

    The mask is squashed with Pillow's antialiased bilinear filter; a share s of foreground becomes
    20 s - 10, the scale that upstream uses where a mask stands in for a prediction.

    Args:
        mask: bool [H, W], or None for no mask (zeros, which `has_mask_input` switches off).
        height: Wanted height.
        width: Wanted width.

    Returns:
        float32 [height, width], from -10 to 10.
    """
    if mask is None:
        return np.zeros((height, width), dtype=np.float32)
    share = Image.fromarray(mask.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    return np.asarray(share, dtype=np.float32) * np.float32(20) - np.float32(10)


def _points_of(prompt: PromptSet) -> list[tuple[float, float, int]]:
    points: list[tuple[float, float, int]] = []
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box
        points += [(x0, y0, BOX_FIRST), (x1, y1, BOX_SECOND)]
    return points + list(prompt.points)


def _no_mask_input() -> StageError:
    return StageError(
        "This target takes no mask prompt.",
        "Its contract has no mask_input.",
        "Leave --mask out, or use the contract image.",
        exit_code=BAD_INPUT,
    )
