"""What a family's checks are given: what the stage `reference` wrote, and how graphs are run."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import safe_open

Arrays = dict[str, NDArray[Any]]
Run = Callable[[str, Mapping[str, NDArray[Any]]], Arrays]


class Reference:
    """What the stage `reference` wrote: the cases, and arrays read from the file when asked for.

    Attributes:
        document: The cases.
        untouched: Graphs that need no comparison by themselves, because they are verified already.
    """

    def __init__(
        self, cases: Path, tensors: Path, untouched: Collection[str] = frozenset()
    ) -> None:
        self.document: Mapping[str, Any] = json.loads(cases.read_text(encoding="utf-8"))
        self.untouched = frozenset(untouched)
        self._tensors: Any = safe_open(tensors, framework="numpy")

    def __getitem__(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = self._tensors.get_tensor(name)
        return array
