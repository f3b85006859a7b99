"""Targets that this version can build, and those that it only knows by name."""

from collections.abc import Iterable, Sequence

from modelkiln.catalog.target import Target
from modelkiln.errors import EnvironmentFailure
from modelkiln.util import console


def split_available(targets: Iterable[Target]) -> tuple[list[Target], list[Target]]:
    """Return the targets that can be built, and those that globs matched and that cannot.

    Raises:
        EnvironmentFailure: One that cannot be built was named, or there is no other.
    """
    able: list[Target] = []
    left_out: list[Target] = []
    for one in targets:
        (left_out if one.format.unavailable else able).append(one)
    named = [one for one in left_out if one.by_name] or ([] if able else left_out)
    if named:
        why, then = named[0].format.unavailable
        raise EnvironmentFailure(f"{named[0].name} cannot be built here.", why, then)
    return able, left_out


def find_reasons(targets: Iterable[Target]) -> dict[str, str]:
    """Return why targets cannot be built, by name."""
    return {one.name: one.format.unavailable[0] for one in targets}


def note_left_out(targets: Sequence[Target]) -> None:
    """Say which targets were left out, a line for each reason."""
    reasons: dict[tuple[str, ...], list[Target]] = {}
    for one in targets:
        reasons.setdefault(one.format.unavailable, []).append(one)
    for (why, then), members in reasons.items():
        formats = ", ".join(dict.fromkeys(one.format.name for one in members))
        count = f"{len(members)} target{'' if len(members) == 1 else 's'}"
        console.note(f"skipped {count} of {formats}: {why} {then}")
