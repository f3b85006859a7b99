"""The still-image contracts' part of `calibrate`: a picture encoded, and prompts of every kind
decoded on it."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.precision.ranges import Run
from exporters.sam2.image.prompts import make_prompts

DECODER: Final = "decoder"
MASK: Final = "mask_input"


def feed(run: Run, params: Mapping[str, Any], picture: NDArray[np.float32]) -> None:
    """Run the graphs to be calibrated on a picture; the decoder only where it is one of them.

    Prompts lie at the same places in every picture. Those that bring a mask come last, and their
    mask is the first one that the decoder made of a point.

    Args:
        run: Runs a graph: its name and inputs by name give its outputs by name.
        params: The step's: `graphs` and `quantized`.
        picture: float32 [1, 3, S, S], preprocessed.
    """
    graphs = {graph["name"]: graph for graph in params["graphs"]}
    features = run("encoder", {graphs["encoder"]["inputs"][0]["name"]: picture})
    if DECODER not in params["quantized"]:
        return
    dims = {value["name"]: value["dims"] for value in graphs[DECODER]["inputs"]}
    hint: NDArray[np.float32] | None = None
    for prompts in make_prompts(picture.shape[-1], np.random.default_rng(0)):
        if any(prompts.masks) and MASK not in dims:
            continue
        points, labels = prompts.decoder_points()
        inputs = {**features, "point_coords": points, "point_labels": labels}
        if MASK in dims:
            masks = np.zeros((prompts.sets, *dims[MASK][1:]), np.float32)
            if hint is not None:
                masks[list(prompts.masks)] = hint
            inputs |= {MASK: masks, "has_mask_input": np.array(prompts.masks, np.float32)}
        found = run(DECODER, {name: inputs[name] for name in dims})
        if hint is None:
            hint = found["masks"][0, 0]
