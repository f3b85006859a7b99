"""What a family's part of `predict` is given, and the drawing that it hands back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.media.sheet import Caption


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a family's part is given.

    Attributes:
        contract: The golden contract.
        files: Its .onnx files by the graphs' names.
        picture: uint8 [H, W, 3].
        params: The step's parameters; prompts are `points` and `boxes`.
        inputs: The step's files; `mask` is a prompt.
        threads: How many threads a session may use.
    """

    contract: Mapping[str, Any]
    files: Mapping[str, Path]
    picture: NDArray[np.uint8]
    params: Mapping[str, Any]
    inputs: Mapping[str, Path]
    threads: int


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What a family's part hands back.

    Attributes:
        overlay: uint8 [h, w, 3], the picture with what was found drawn on it.
        captions: What stands below it.
        pictures: More pictures by name, uint8 [h, w] or [h, w, 3]; none is called overlay.
        says: What was found, in lines for the user.
        figures: The same as numbers, for programs.
        seconds: How long loading the graphs and running each took.
    """

    overlay: NDArray[np.uint8]
    captions: Sequence[Caption] = ()
    pictures: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    says: Sequence[str] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
