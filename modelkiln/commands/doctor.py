"""`invoke doctor`: what this machine can and cannot build, and how to fix it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from modelkiln.building.kiln import Kiln
from modelkiln.catalog.catalog import Catalog
from modelkiln.catalog.formats import Format
from modelkiln.commands.doctor_checks import Surroundings, diagnose
from modelkiln.commands.doctor_findings import Kind, has_problem, to_document, to_lines
from modelkiln.errors import EnvironmentFailure
from modelkiln.util import console

# What runs a format's files and takes a GPU to do it.
GPU_RUNTIMES: Final = frozenset({"tensorrt", "tensorrt-rtx"})


def examine(kiln: Kiln, *, as_json: bool = False) -> None:
    """Print what was found.

    Raises:
        EnvironmentFailure: something stops every build.
    """
    names = {model.environment for model in kiln.catalog.models.values()}
    formats: dict[str, set[str]] = {}
    kinds: dict[str, Kind] = {}
    for one in kiln.catalog.formats.values():
        why, then = one.unavailable or ("", "")
        on_gpu = bool(one.runtimes) and GPU_RUNTIMES.issuperset(one.runtimes)
        family = f"{one.name.partition('-')[0]}-*"
        kind = kinds.setdefault(family, Kind(why=why, remedy=then, runs_on_gpu=on_gpu))
        kinds[family] = replace(kind, formats=(*kind.formats, one.name))
        for environment in () if why else _environments(kiln.catalog, one):
            if environment not in names:
                formats.setdefault(environment, set()).add(one.name)
    findings = diagnose(
        Surroundings(
            artifacts=kiln.artifacts,
            cache=kiln.cache,
            environments=[
                kiln.provisioner.environment(name) for name in sorted(names | set(formats))
            ],
            kinds=kinds,
            formats={name: sorted(named) for name, named in formats.items()},
            checkpoints=[model.checkpoint for model in kiln.catalog.models.values()],
            offline=kiln.options.offline,
        )
    )
    if as_json:
        console.say_json(to_document(findings))
    else:
        for line in to_lines(findings):
            console.say(line)
    if has_problem(findings):
        raise EnvironmentFailure(
            "This machine cannot build anything now.",
            "See the lines marked as a problem.",
            "Fix what they name, then run invoke doctor again.",
        )


def _environments(catalog: Catalog, one: Format) -> Iterator[str]:
    """Yield the environments that a format needs beside its model's, its sources' among them."""
    if one.environment:
        yield one.environment
    if source := one.replaces or one.made_from.partition("@")[0]:
        yield from _environments(catalog, catalog.formats[source])
