"""`invoke doctor`: what this machine can and cannot build, and how to fix it."""

from modelkiln.building.kiln import Kiln
from modelkiln.commands.doctor_checks import (
    Kind,
    Surroundings,
    diagnose,
    has_problem,
    to_document,
    to_lines,
)
from modelkiln.errors import EnvironmentFailure
from modelkiln.util import console


def examine(kiln: Kiln, *, as_json: bool = False) -> None:
    """Print what was found.

    Raises:
        EnvironmentFailure: something stops every build.
    """
    names = {model.environment for model in kiln.catalog.models.values()}
    formats: dict[str, list[str]] = {}
    kinds: dict[str, Kind] = {}
    for one in kiln.catalog.formats.values():
        why, then = one.unavailable or ("", "")
        on_gpu = bool(one.runtimes) and all(name.startswith("tensorrt") for name in one.runtimes)
        family = f"{one.name.partition('-')[0]}-*"
        kinds.setdefault(family, Kind(why=why, remedy=then, runs_on_gpu=on_gpu))
        if not why and one.environment and one.environment not in names:
            formats.setdefault(one.environment, []).append(one.name)
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
