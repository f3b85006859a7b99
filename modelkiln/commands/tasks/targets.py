"""Tasks that plan and build targets."""

from typing import TYPE_CHECKING

from modelkiln.commands.task import command

if TYPE_CHECKING:
    from modelkiln.building.kiln import Kiln


@command()
def targets(kiln: "Kiln", json: bool = False) -> None:
    """List every target, with default parameters."""
    from modelkiln.commands.plan import list_targets

    list_targets(kiln, as_json=json)


@command(
    help={
        "explain": "name what changed in the key of each step that would run",
        "format": "text (default), json, or github: the matrix of a GitHub Actions workflow",
    }
)
def plan(
    kiln: "Kiln",
    targets: str,
    explain: bool = False,
    format: str = "text",  # noqa: A002
    json: bool = False,
) -> None:
    """Show the steps that targets need, and which of them would run."""
    from modelkiln.commands.plan import show_plan_as

    show_plan_as(kiln, targets, "json" if json else format, why=explain)


@command(
    remembered=True,
    help={
        "until": "stop after this stage, one of those that make the files of all these targets;"
        " nothing is published then"
    },
)
def build(
    kiln: "Kiln", targets: str, until: str = "", dry_run: bool = False, json: bool = False
) -> None:
    """Build and verify targets; what passes lands in artifacts/out/TARGET."""
    from modelkiln.commands.build import build_targets

    build_targets(kiln, targets, until=until, dry_run=dry_run, as_json=json)


@command(remembered=True, parameters=True)
def build_all(kiln: "Kiln", dry_run: bool = False, json: bool = False) -> None:
    """Build everything that this machine can; the rest is listed with the reason."""
    from modelkiln.commands.build import build_all as build_everything

    build_everything(kiln, dry_run=dry_run, as_json=json)


@command()
def verify(kiln: "Kiln", targets: str, json: bool = False) -> None:
    """Check built targets anew: their files' bytes, then every gate."""
    from modelkiln.commands.verify import verify_targets

    verify_targets(kiln, targets, as_json=json)


@command()
def reproduce(kiln: "Kiln", target: str, json: bool = False) -> None:
    """Build a target twice under different conditions and compare every byte."""
    from modelkiln.commands.reproduce import reproduce_target

    reproduce_target(kiln, target, as_json=json)
