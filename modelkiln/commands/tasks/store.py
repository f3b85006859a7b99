"""The tasks `store.*`."""

from typing import TYPE_CHECKING

from modelkiln.commands.task import command

if TYPE_CHECKING:
    from modelkiln.building.kiln import Kiln


@command("verify", help={"repair": "set damaged files aside, so that the next build makes them"})
def store_verify(kiln: "Kiln", repair: bool = False, json: bool = False) -> None:
    """Read every file of the store and compare it with its digest."""
    from modelkiln.commands.store import verify_store

    verify_store(kiln, repair=repair, as_json=json)


@command("gc", help={"days": "keep what was built in the last so many days as well"})
def store_gc(kiln: "Kiln", days: int = 0, dry_run: bool = False, json: bool = False) -> None:
    """Remove what no published target needs."""
    from modelkiln.commands.store import collect_garbage

    collect_garbage(kiln, days=days, dry_run=dry_run, as_json=json)
