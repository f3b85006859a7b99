"""DINOv2's part of the stage `predict`: the main differences between patches, as colours."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exporters.dinov2.features.components import find_components, to_colours
from exporters.graphs.sessions import Sessions
from exporters.media.drawing import Drawing, Request
from exporters.media.overlay import canvas_size, enlarge
from exporters.media.pictures import preprocess
from exporters.media.sheet import Caption, Colour
from exporters.protocol import report_progress

_CHANNELS: Final[dict[str, Colour]] = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
}
_OPACITY: Final = 0.65


def predict(request: Request) -> Drawing:
    """Compute a picture's features and draw their principal components.

    Works for every contract with one graph, whose input is the picture [batch, 3, H, W] and whose
    outputs have `patch_tokens` [batch, P, D].

    Returns:
        The picture at 768 to 2048 pixels under the colours, and `pca`: the colours alone, uint8
        [H, W, 3]. The figures hold the tokens' shapes, and each component's share of the variance.

    Raises:
        StageError: The graph fails.
    """
    (graph,) = request.contract["graphs"]
    (image,) = graph["inputs"]
    height, width = image["dims"][2:]
    report_progress(None, "loading the graph")
    sessions = Sessions(request.files, request.threads, request.contract.get("session", {}))
    report_progress(None, "computing the features")
    pixels = preprocess(request.picture, height, width, Image.Resampling.BICUBIC)
    tokens = sessions.run(graph["name"], {image["name"]: pixels})

    report_progress(None, "drawing")
    patches = tokens["patch_tokens"][0]
    rows, columns = _grid(height, width, len(patches))
    found = find_components(patches)
    colours = to_colours(found.scores).reshape(rows, columns, 3)
    shares = [float(one) for one in found.shares]
    seen = (
        f"{rows} rows of {columns} patches, seen {height} pixels high and {width} wide; "
        f"a token has {patches.shape[1]} values"
    )
    return Drawing(
        overlay=_lay_over(request.picture, colours),
        captions=[
            Caption(text=seen),
            *(
                Caption(
                    text=f"{ordinal} principal component: {share:.1%} of the variance", tint=tint
                )
                for ordinal, share, tint in zip(
                    ("1st", "2nd", "3rd"), shares, _CHANNELS.values(), strict=True
                )
            ),
        ],
        pictures={"pca": _resize(colours, *request.picture.shape[:2])},
        says=[
            seen,
            "principal components: "
            + ", ".join(
                f"{share:.1%} of the variance ({channel})"
                for share, channel in zip(shares, _CHANNELS, strict=True)
            ),
        ],
        figures={
            "size": {"height": height, "width": width},
            "grid": {"rows": rows, "columns": columns},
            "tokens": {name: list(value.shape[1:]) for name, value in tokens.items()},
            "variance": shares,
        },
        seconds={
            "session_load": sessions.load_seconds,
            **{name: runs[-1] for name, runs in sessions.run_seconds.items()},
        },
    )


def _grid(height: int, width: int, patches: int) -> tuple[int, int]:
    """Return (rows, columns) of square patches that cover a picture."""
    side = math.isqrt(height * width // patches)
    return height // side, width // side


def _resize(colours: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    smooth = Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)
    return np.array(smooth, dtype=np.uint8)


def _lay_over(picture: NDArray[np.uint8], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay colours over the picture's grey, so that a hue is a component's and not the picture's."""
    grey = Image.fromarray(enlarge(picture)).convert("L").convert("RGB")
    over = Image.fromarray(_resize(colours, *canvas_size(*picture.shape[:2])))
    return np.array(Image.blend(grey, over, _OPACITY), dtype=np.uint8)
