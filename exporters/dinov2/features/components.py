"""The directions in which tokens differ most, as colours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Shares of the patches that may lie beyond the darkest and the brightest colour.
_DARKEST, _BRIGHTEST = 2, 98


@dataclass(frozen=True, kw_only=True)
class Components:
    """The leading principal components of a set of tokens.

    Attributes:
        scores: float64 [P, N], each token along each component, with mean 0.
        shares: float64 [N], the component's part of the tokens' variance, falling; 0 where the
            tokens do not differ.
    """

    scores: NDArray[np.float64]
    shares: NDArray[np.float64]


def find_components(tokens: NDArray[np.float32], count: int = 3) -> Components:
    """Find principal components.

    The sign of a component is that which makes the largest entry of its direction positive. One
    whose variance float32's rounding alone could have made is left out: its scores are 0.

    Args:
        tokens: float32 [P, D].
        count: How many components, at most D.
    """
    exact = tokens.astype(np.float64)
    centred = exact - exact.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(exact))
    variances, directions = variances[: -count - 1 : -1], directions[:, : -count - 1 : -1]
    largest = np.abs(directions).argmax(axis=0)
    signs = np.sign(directions[largest, np.arange(count)])
    noise = np.square(exact).sum(axis=1).mean() * float(np.finfo(np.float32).eps) ** 2
    real = variances > noise
    total = np.square(centred).sum(axis=1).mean()
    return Components(
        scores=centred @ (directions * signs) * real,
        shares=np.where(real, variances, 0) / max(total, noise, np.finfo(np.float64).tiny),
    )


def to_colours(scores: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Give each component a colour channel of its own.

    Few patches that lie far out, as artefacts do, must not decide what the others look like: all
    but 2 % at either end of a component share the channel's range, and the rest are clipped.

    Args:
        scores: float64 [P, 3].

    Returns:
        uint8 [P, 3]; a component that is the same everywhere gives a middling channel.
    """
    low, high = np.percentile(scores, (_DARKEST, _BRIGHTEST), axis=0)
    differs = high > low
    shares = np.where(differs, (scores - low) / np.where(differs, high - low, 1), 0.5)
    return np.asarray(np.clip(shares, 0, 1) * 255 + 0.5, dtype=np.uint8)
