"""The weights that the sides of a bench start from."""

from dataclasses import replace

from modelkiln.building.kiln import Kiln
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import OfficialWeights, RandomWeights
from modelkiln.fetch.checkpoints import find_cached
from modelkiln.util import console


def with_weights(kiln: Kiln, name: str) -> Kiln:
    """Return the kiln, with random weights where official ones were asked for and are not in the
    cache.

    Args:
        name: The target that is measured.

    Raises:
        UsageError: There is no such target.
    """
    missing = [
        target
        for target in kiln.targets(name)
        if isinstance(target.weights, OfficialWeights)
        and find_cached(target.model.checkpoint, kiln.cache) is None
    ]
    if not missing:
        return kiln
    console.note("no official checkpoint in the cache: all sides start from random weights")
    return Kiln(replace(kiln.options, weights="random"), artifacts=kiln.artifacts)


def say_weights(target: Target) -> str:
    """Return which weights a target has, in a word."""
    match target.weights:
        case OfficialWeights():
            return "official"
        case RandomWeights():
            return "random"
        case _:
            return "a file of the user's own"
