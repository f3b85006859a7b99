"""`invoke env.list` and `invoke env.prune`."""

import time

from modelkiln.building.kiln import Kiln
from modelkiln.environments.cache import list_environments, prune
from modelkiln.environments.environment import tools_digest
from modelkiln.paths import REPOSITORY
from modelkiln.util import console
from modelkiln.util.units import human_bytes

# What tests and benches install beside an environment.
TOOL_LOCKS = (
    REPOSITORY / "requirements" / "dev.txt",
    REPOSITORY / "tests" / "exporters" / "requirements.txt",
    *sorted((REPOSITORY / "bench").glob("*.txt")),
)


def list_installed(kiln: Kiln, *, as_json: bool = False) -> None:
    """Print the environments and tool folders in the cache, last used first."""
    found = list_environments(kiln.cache)
    if as_json:
        console.say_json(
            [
                {
                    "name": one.name,
                    "kind": one.kind,
                    "digest": one.digest,
                    "folder": str(one.folder),
                    "bytes": one.bytes,
                }
                for one in found
            ]
        )
        return
    if not found:
        console.say(f"nothing is installed in {kiln.cache}")
        return
    console.say_table(
        ("name", "kind", "digest", "size", "used"),
        [
            (
                one.name,
                one.kind,
                one.digest[:12],
                human_bytes(one.bytes),
                f"{(time.time() - one.used) / 86400:.0f} days ago",
            )
            for one in found
        ],
    )


def prune_installed(
    kiln: Kiln,
    *,
    everything: bool = False,
    licensed: bool = False,
    dry_run: bool = False,
    as_json: bool = False,
) -> None:
    """Remove what no environment of this checkout is, or all, and the packages kept for images; it
    is fetched and installed again when needed.

    Args:
        licensed: Remove as well what a licence forbids to hand on, so that the cache may be.
    """
    from modelkiln.containers import wheelhouse

    known = list(kiln.provisioner.environments())
    ours = [one for one in known if one.redistributable or not licensed]
    keep = {one.digest for one in ours}
    keep |= {tools_digest(lock) for lock in TOOL_LOCKS if lock.is_file()}
    gone = prune(kiln.cache, set() if everything else keep, dry_run=dry_run)
    gone += wheelhouse.prune(kiln.cache, [] if everything else ours, dry_run=dry_run)
    if as_json:
        console.say_json([{"name": one.name, "digest": one.digest} for one in gone])
        return
    would = "would remove" if dry_run else "removed"
    for one in gone:
        console.say(f"{would} {one.name} {one.digest[:12]}  {human_bytes(one.bytes)}")
    if not gone:
        console.say("nothing to remove")
