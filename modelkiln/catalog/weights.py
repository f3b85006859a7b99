"""Weights: the pinned checkpoint, seeded random ones, or a file of the user's own."""

import re
from dataclasses import dataclass

from modelkiln.errors import UsageError

MAX_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class OfficialWeights:
    """The pinned checkpoint."""

    suffix: str = ""

    @property
    def label(self) -> str:
        return "official"


@dataclass(frozen=True, kw_only=True)
class RandomWeights:
    """Seeded random weights of the real architecture."""

    seed: int = 0

    @property
    def suffix(self) -> str:
        return f"+random{self.seed}"

    @property
    def label(self) -> str:
        return f"random:{self.seed}"


@dataclass(frozen=True, kw_only=True)
class FileWeights:
    """The user's own checkpoint; `format` is `pt` or `safetensors`."""

    path: str
    sha256: str
    format: str
    bytes: int

    @property
    def suffix(self) -> str:
        return f"+{self.sha256[:12]}"

    @property
    def label(self) -> str:
        return f"sha256:{self.sha256}"


Weights = OfficialWeights | RandomWeights | FileWeights


def parse_weights(text: str) -> OfficialWeights | RandomWeights | None:
    """Return what `--weights` means where it names no file: `official` or `random[:SEED]`."""
    if text == "official":
        return OfficialWeights()
    if text == "random":
        return RandomWeights()
    if text.startswith("random:"):
        return RandomWeights(seed=read_seed(text.removeprefix("random:")))
    return None


def read_seed(text: str) -> int:
    """Return the seed that a text means; UsageError where it is not one."""
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > MAX_SEED:
        raise UsageError(
            f"{text!r} is not a seed for random weights.",
            f"A seed is a whole number from 0 to {MAX_SEED}.",
            "For example: --weights random:0",
        )
    return int(text)
