"""`invoke plan`: which steps would run, and why."""

from enum import StrEnum

from modelkiln.building.available import note_left_out, split_available
from modelkiln.building.dry_run import show_plan
from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import prepare
from modelkiln.catalog.selection import all_target_names
from modelkiln.errors import UsageError
from modelkiln.util import console


def list_targets(kiln: Kiln, *, as_json: bool = False) -> None:
    """Print the name of every target with default parameters that this version can build."""
    formats = kiln.catalog.formats
    names = [
        name
        for name in all_target_names(kiln.catalog)
        if not formats[name.rpartition("/")[2]].unavailable
    ]
    if as_json:
        console.say_json(names)
    else:
        for name in names:
            console.say(name)


class PlanFormat(StrEnum):
    """How `invoke plan` writes."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


def show_plan_as(kiln: Kiln, text: str, form: str, *, why: bool = False) -> None:
    """Print the plan of the targets that a command line names, in the form that it asks for.

    Raises:
        UsageError: There is no such form, or a target is wrong.
    """
    if form not in list(PlanFormat):
        raise UsageError(
            f"A plan cannot be written as {form!r}.",
            f"The formats are {', '.join(PlanFormat)}.",
            "Leave --format out for text.",
        )
    if form == PlanFormat.GITHUB:
        from modelkiln.building.matrix import show_matrix

        targets, left_out = split_available(kiln.targets(text))
        note_left_out(left_out)
        show_matrix(kiln, targets)
    else:
        prepared = prepare(kiln, text)
        note_left_out(prepared.left_out)
        show_plan(kiln, prepared, as_json=form == PlanFormat.JSON, why=why)
